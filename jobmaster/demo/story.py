"""What happens in a demo, from the worker's start to the last check."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobmaster.demo.app import jm
from jobmaster.demo.checking import check
from jobmaster.demo.files import find_text_files
from jobmaster.demo.firing import LEAST, Heartbeats
from jobmaster.demo.plan import Cancel, Planned, plan_jobs
from jobmaster.demo.telling import Telling, teller
from jobmaster.demo.worker_process import WorkerProcess
from jobmaster.model.states import JobStatus
from jobmaster.result import Result

LOOK_EVERY = 0.1
STAYING_LOOK_EVERY = 0.5
ENDS_WITHIN = 12.0
"""Seconds for the planned jobs besides those of the files, for which `PER_FILE` is added."""
PER_FILE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked for. `temporary` is a folder that is deleted at the end; `given_master` the address, if given."""

    folder: Path
    temporary: Path
    given_master: str | None
    once: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class Sent:
    """A job that was accepted. `before` and `after` are the times around that, by this machine's clock."""

    planned: Planned
    result: Result[Any]
    before: float
    after: float


def run(order: Order) -> int:
    """Run the demo; the answer is the exit code.

    Raises:
        ConfigurationError: the folder has no text file, or the master cannot be used.
        WorkerEndedError: the worker ended by itself.
        KeyboardInterrupt: it was ended by a signal before all jobs had ended.
    """
    found = find_text_files(order.folder)
    tell = teller(order.given_master, as_json=order.as_json)
    jm.workers.list()  # a master that cannot be used is told before anything is started
    with WorkerProcess(order.temporary / "worker.log") as worker:
        try:
            tell.start(found, worker)
            worker.wait_until_ready(jm)
            sent = _send(plan_jobs(found))
            heartbeats = _since_the_first(sent)
            _watch(sent, heartbeats, worker, tell)
            checked = check(sent, found, worker.pid, heartbeats)
            tell.end(checked, found, worker, once=order.once)
            if not order.once:
                _stay(worker, heartbeats, tell)
        finally:
            jm.close()
    return 0 if checked.is_as_planned else 1


def _send(jobs: Sequence[Planned]) -> list[Sent]:
    before = time.time()
    results = jm.enqueue_many([planned.job for planned in jobs])
    after = time.time()
    return [Sent(planned, result, before, after) for planned, result in zip(jobs, results, strict=True)]


def _since_the_first(sent: Sequence[Sent]) -> Heartbeats:
    first = jm.jobs.get(sent[0].result.id)
    return Heartbeats(None if first is None else first.created_at)


def _watch(sent: Sequence[Sent], heartbeats: Heartbeats, worker: WorkerProcess, tell: Telling) -> None:
    """Return when all jobs have ended and the schedule has fired, or when they should have."""
    to_cancel = [one for one in sent if one.planned.kind.cancel is not Cancel.NEVER]
    deadline = time.monotonic() + ENDS_WITHIN + PER_FILE * len(sent)
    with tell.watching(sent) as show:
        while time.monotonic() < deadline:
            if not worker.is_alive:
                raise worker.ended()
            to_cancel = [one for one in to_cancel if not _cancelled(one)]
            has_fired = len(heartbeats.ended()) >= LEAST  # asked first: what is shown is never older
            if show() == len(sent) and has_fired:
                return
            time.sleep(LOOK_EVERY)


def _cancelled(one: Sent) -> bool:
    """Cancel it if its moment has come."""
    if one.planned.kind.cancel is Cancel.RUNNING and one.result.status is not JobStatus.PROCESSING:
        return False
    one.result.cancel()
    return True


def _stay(worker: WorkerProcess, heartbeats: Heartbeats, tell: Telling) -> None:
    """Keep the worker until Ctrl-C, and show how the schedule goes on."""
    try:
        with tell.staying() as show:
            while worker.is_alive:
                show(heartbeats.ended())
                time.sleep(STAYING_LOOK_EVERY)
    except KeyboardInterrupt:
        tell.goodbye()
        return
    raise worker.ended()
