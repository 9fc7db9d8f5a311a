"""The single checks of `jobmaster doctor`. Each looks at one thing and answers findings; none changes anything."""

from __future__ import annotations

import platform
import sqlite3
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final

from jobmaster.cli.output import span, survival
from jobmaster.errors import ConfigurationError, JobMasterError, StoreUnavailable
from jobmaster.model.reasons import UNROUTABLE
from jobmaster.model.states import BucketStatus, ClusterMode, JobStatus

if TYPE_CHECKING:
    from jobmaster.app import JobMaster

OLDEST_SQLITE: Final = (3, 35, 0)
OLDEST_PYTHON: Final = (3, 11)
MOST_SKEW: Final = 2.0
"""Seconds between this host's clock and the store's that nobody needs to know of."""
LONG_WAIT: Final = timedelta(minutes=5)
MOST_LOOKED_AT: Final = 1_000


class State(Enum):
    """How good a finding is."""

    OK = 1
    WARNING = 2
    FAULT = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Args:
        check: its name.
        state: how good it is.
        fact: what was found.
        advice: what to do, empty where nothing is.
        is_unreachable: a store did not answer.
    """

    check: str
    state: State
    fact: str
    advice: str = ""
    is_unreachable: bool = False


def check_installation() -> list[Finding]:
    """Python and SQLite."""
    python, sqlite = platform.python_version(), sqlite3.sqlite_version
    return [
        _judge(
            "python", python, good=sys.version_info >= OLDEST_PYTHON, advice="JobMaster needs Python 3.11 or newer."
        ),
        _judge(
            "sqlite",
            sqlite,
            good=sqlite3.sqlite_version_info >= OLDEST_SQLITE,
            advice="JobMaster needs SQLite 3.35 or newer: use a newer Python.",
        ),
    ]


def check_up(app: JobMaster) -> list[Finding]:
    """Everything about the app and its cluster. What needs the master is left out once that does not answer."""
    findings = [*_app(app), *_settings(app)]
    try:
        schema = _schema(app)
        findings += schema
        if any(finding.state is State.FAULT for finding in schema) or _is_new(schema):
            return findings
        for check in _CHECKS_OF_MASTER:
            findings += check(app)
    except StoreUnavailable as error:
        advice = "Is the server running, and are address, user and network right? See jobmaster config show."
        findings.append(Finding("master", State.FAULT, str(error), advice, is_unreachable=True))
    except JobMasterError as error:
        findings.append(Finding("master", State.FAULT, str(error)))
    return findings


def _judge(check: str, fact: str, *, good: bool, advice: str, bad: State = State.FAULT) -> Finding:
    return Finding(check, State.OK, fact) if good else Finding(check, bad, fact, advice)


def _app(app: JobMaster) -> list[Finding]:
    names = sorted(definition.name for definition in app.registry)
    shown = ", ".join(names[:5]) + (", ..." if names[5:] else "")
    return [
        Finding("app", State.OK, f"cluster {app.cluster_id}"),
        _judge(
            "tasks",
            f"{len(names)} found{f': {shown}' if names else ''}",
            good=bool(names),
            advice="Put @jm.task on a function, or name the modules that have tasks in include=[...].",
        ),
    ]


def _settings(app: JobMaster) -> list[Finding]:
    settings = app.settings
    findings = [Finding("settings", State.WARNING, warning) for warning in app.resolved.warnings]
    if not findings:
        changed = sum(origin not in {"default", "app"} for _, _, origin in app.resolved.rows())
        findings.append(Finding("settings", State.OK, f"valid; {changed} from environment and files"))
    if settings.cluster_mode is not ClusterMode.ACTIVE:
        mode = settings.cluster_mode.name.lower()
        findings.append(Finding("mode", State.WARNING, f"cluster_mode is {mode}: no job runs", "Set it to active."))
    if settings.retention is None:
        advice = "Set retention=timedelta(days=30), or the master grows for ever."
        findings.append(Finding("retention", State.WARNING, "ended jobs are kept for ever", advice))
    return findings


def _schema(app: JobMaster) -> list[Finding]:
    from jobmaster.database import schema_status

    try:
        found = schema_status(app.settings)
    except ConfigurationError as error:
        return [Finding("master", State.FAULT, str(error))]
    if found.is_current:
        return [Finding("schema", State.OK, f"{found.found} in {found.database}")]
    if found.found is not None and found.found > found.expected:
        fact = f"{found.found} in {found.database} is newer than this JobMaster knows ({found.expected})"
        return [Finding("schema", State.FAULT, fact, "Update this installation: pip install -U jobmaster")]
    fact = f"{found.found or 'none yet'} in {found.database}, expected {found.expected}"
    if app.settings.auto_provision:
        return [Finding("schema", State.WARNING, fact, "The first worker makes it, or jobmaster db upgrade.")]
    return [Finding("schema", State.FAULT, fact, "auto_provision is off, so run: jobmaster db upgrade")]


def _is_new(schema: Sequence[Finding]) -> bool:
    return any(finding.state is State.WARNING for finding in schema)


def _connection(app: JobMaster) -> list[Finding]:
    ahead = app.client.ask(lambda gate: gate.clock_ahead_us()) / 1_000_000
    promise = app.client.ask(lambda gate: gate.store.durability())
    skew = f"the master's clock is {span(abs(ahead))} {'ahead' if ahead > 0 else 'behind'}"
    fact = f"an accepted job {survival(promise.survives)} ({promise.evidence})"
    less = app.settings.survives.value == "host" and promise.survives != "host"
    return [
        Finding("master", State.OK, f"{app.settings.master} answers"),
        _judge(
            "clock",
            skew,
            good=abs(ahead) <= MOST_SKEW,
            advice="Have both hosts follow a time server. Jobs run by the master's clock.",
            bad=State.WARNING,
        ),
        _judge(
            "durability",
            fact,
            good=not less,
            advice='The app expects "host": change the server\'s setting, or say survives="process".',
            bad=State.WARNING,
        ),
    ]


def _workers(app: JobMaster) -> list[Finding]:
    found = app.workers.list()
    living = [worker for worker in found if worker.status.lives]
    dead = len(found) - len(living)
    findings = [
        _judge(
            "workers",
            f"{len(living)} live" + (f", {dead} ended" if dead else ""),
            good=bool(living),
            advice="No job runs. Start one: jobmaster worker -A myapp",
            bad=State.WARNING,
        )
    ]
    if paused := sorted(worker.name for worker in living if worker.stats.get("paused")):
        advice = f"They start no job. Let them go on: jobmaster workers resume {' '.join(paused)}"
        findings.append(Finding("paused", State.WARNING, f"paused: {', '.join(paused)}", advice))
    named = {definition.target.lane or "default" for definition in app.registry}
    served = {lane for worker in living if worker.mode.runs_jobs for lane in worker.lanes}
    if living and (left := sorted(named - served)):
        advice = f"Their jobs wait. Start a worker for them: jobmaster worker -Q {','.join(left)}"
        findings.append(Finding("lanes", State.WARNING, f"nobody serves {', '.join(left)}", advice))
    elif living:
        findings.append(Finding("lanes", State.OK, f"served: {', '.join(sorted(served)) or 'none'}"))
    return findings


def _buckets(app: JobMaster) -> list[Finding]:
    found = app.buckets.list()
    lost = [bucket for bucket in found if bucket.status in {BucketStatus.LOST, BucketStatus.READY_TO_DRAIN}]
    depth = sum(bucket.depth for bucket in found)
    fact = f"{len(found)} buckets, {depth:,} jobs in them when last counted, {len(lost)} lost"
    advice = "A worker of the same agent and lane adopts them: start one."
    return [_judge("buckets", fact, good=not lost, advice=advice, bad=State.WARNING)]


def _jobs(app: JobMaster) -> list[Finding]:
    from jobmaster.views import JobQuery

    counts = app.jobs.count()
    told = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count) or "none yet"
    findings = [Finding("jobs", State.OK, told)]
    held = app.jobs.list(JobQuery(statuses=(JobStatus.HELD_ON_MASTER,), reason=UNROUTABLE), limit=MOST_LOOKED_AT)
    if held.jobs:
        names = ", ".join(sorted({job.task for job in held.jobs})[:5])
        advice = "Start a worker whose code has these tasks; the jobs go on then."
        findings.append(Finding("unroutable", State.WARNING, f"no worker knows {names}", advice))
    waiting = app.jobs.list(
        JobQuery(statuses=(JobStatus.SAVE_PENDING, JobStatus.QUEUED, JobStatus.ASSIGNED_TO_BUCKET)),
        limit=MOST_LOOKED_AT,
    )
    now = datetime.now(UTC)
    oldest = max((now - job.due_at for job in waiting.jobs), default=timedelta())
    if oldest > LONG_WAIT:
        advice = "Too few workers or slots, or a lane that nobody serves. See jobmaster workers list."
        findings.append(
            Finding("waiting", State.WARNING, f"a job has waited for {span(oldest.total_seconds())}", advice)
        )
    return findings


_CHECKS_OF_MASTER: tuple[Callable[[JobMaster], list[Finding]], ...] = (_connection, _workers, _buckets, _jobs)
