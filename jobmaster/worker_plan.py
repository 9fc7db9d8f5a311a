"""Which engines are to run: from the declared workers, the tasks of the app, and what the command line selects."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from jobmaster.errors import ConfigurationError
from jobmaster.model.states import ClusterMode, WorkerMode
from jobmaster.settings import STANDALONE_AGENT, Settings, Worker
from jobmaster.settings.declarations import SLOTS
from jobmaster.worker_order import default_worker_name

if TYPE_CHECKING:
    from jobmaster.app import JobMaster

POOLS: Final = ("threads", "processes", "asyncio", "solo")


class WorkerPlan(msgspec.Struct, frozen=True):
    """One engine that is to run: everything that its process must be told beside the app itself. Plain data."""

    name: str
    agent: str = STANDALONE_AGENT
    lanes: tuple[str, ...] = ("",)
    mode: str = "FULL"
    slots: int = SLOTS
    pool: str = "threads"
    buckets: dict[int, int] = {}
    grace: float = 25.0
    once: bool = False
    max_tasks_per_child: int | None = None
    max_memory_per_child: int | None = None
    """MiB."""


def plan_workers(
    app: JobMaster,
    *,
    agent: str | None = None,
    lanes: Sequence[str] = (),
    name: str | None = None,
    identity: str | None = None,
    mode: WorkerMode | None = None,
    pool: str = "threads",
    concurrency: int | None = None,
    engines: int = 1,
    grace: float | None = None,
    once: bool = False,
    max_tasks_per_child: int | None = None,
    max_memory_per_child: int | None = None,
) -> list[WorkerPlan]:
    """The engines that the app's declared workers make, or those of them that `agent` and `lanes` select.

    Args:
        app: its tasks must be imported already.
        agent: only workers of this agent.
        lanes: only workers of these lanes (as stored), for these lanes; one that nobody declares goes to the first
            worker. Empty: as declared, else the default lane and every lane of a task.
        name: the worker's name; None: as declared, else `identity`.
        identity: None: made of host and process.
        mode: instead of the declared one.
        pool: where sync tasks run: "threads", "processes", "asyncio" (nowhere) or "solo".
        concurrency: slots of each engine; None: as declared, for "processes" the number of cores.
        engines: engine processes of each worker.
        grace: seconds; None: the setting.
        once: end when nothing is left to do.
        max_tasks_per_child: a process is replaced after so many runs: the child processes of the pool "processes", and
            an engine process for what runs in itself.
        max_memory_per_child: such a process is replaced when it holds more than so many MiB.

    Raises:
        ConfigurationError: nothing is left to run, a name is unknown, or the pool cannot run the app's tasks.
    """
    settings = app.settings
    if pool not in POOLS:
        raise ConfigurationError(f"There is no pool {pool!r}. Pools are {', '.join(POOLS)}.")
    _check_pool(app, pool)
    declared = _by_lanes(_selected(settings, agent), lanes, mode) if lanes else _selected(settings, agent)
    if once:  # coordinators have no end of their own; beside workers that run jobs they are not needed for it
        declared = [worker for worker in declared if (mode or worker.mode).runs_jobs] or declared
    plans = []
    for number, worker in enumerate(declared):
        worker_mode = mode or worker.mode
        if worker_mode.runs_jobs and not len(app.registry):
            raise ConfigurationError(
                f"App {app.cluster_id!r} has no task and no handler, so a worker could run nothing. Decorate a "
                "function with @jm.task, import the modules that do (include=[...]), or name the right app."
            )
        if once and not (worker_mode.runs_jobs and settings.cluster_mode is ClusterMode.ACTIVE):
            raise ConfigurationError(
                f"A worker of mode {worker_mode.name.lower()} in a cluster that is "
                f"{settings.cluster_mode.name.lower()} runs no jobs, so --once has no end to wait for. Leave it out."
            )
        chosen = name or worker.name or identity or default_worker_name()
        several = len(declared) > 1 and (name is not None or worker.name is None)
        for engine in range(engines):
            suffix = (f".{number + 1}" if several else "") + (f".{engine + 1}" if engines > 1 else "")
            plans.append(
                WorkerPlan(
                    name=chosen + suffix,
                    agent=worker.agent or (STANDALONE_AGENT if settings.is_standalone else settings.agents[0].name),
                    lanes=worker.lanes or tuple(sorted({"", *app.lanes()})),
                    mode=worker_mode.name,
                    slots=concurrency or _slots(worker, pool),
                    pool=pool,
                    buckets={int(key): count for key, count in settings.buckets_of(worker).items()},
                    grace=settings.grace if grace is None else grace,
                    once=once,
                    max_tasks_per_child=max_tasks_per_child,
                    max_memory_per_child=max_memory_per_child,
                )
            )
    return plans


def unserved_lanes(app: JobMaster, plans: Sequence[WorkerPlan]) -> list[str]:
    """Lanes that a task or schedule of the app names and no engine of these serves, as people write them."""
    served = {lane for plan in plans if WorkerMode[plan.mode].runs_jobs for lane in plan.lanes}
    return sorted(lane or "default" for lane in app.lanes() - served)


def _selected(settings: Settings, agent: str | None) -> Sequence[Worker]:
    if agent is not None and agent not in {known.name for known in settings.agents}:
        known = ", ".join(declared.name for declared in settings.agents) or "none: the cluster is standalone"
        raise ConfigurationError(f"There is no agent {agent!r}. Declared agents: {known}.")
    if not settings.workers:
        names = [known.name for known in settings.agents if agent in {None, known.name}]
        return [Worker(agent=known) for known in names] or [Worker()]
    chosen = [worker for worker in settings.workers if agent is None or worker.agent == agent]
    if not chosen:
        raise ConfigurationError(f"No declared worker uses agent {agent!r}. Declare Worker(agent={agent!r}).")
    return chosen


def _by_lanes(workers: Sequence[Worker], lanes: Sequence[str], mode: WorkerMode | None) -> Sequence[Worker]:
    """Those of the workers that serve one of the lanes, with no other lane; the first one takes what is left."""
    running = [worker for worker in workers if (mode or worker.mode).runs_jobs] or list(workers[:1])
    served = [[lane for lane in lanes if not worker.lanes or lane in worker.lanes] for worker in running]
    first = next((number for number, own in enumerate(served) if own), 0)
    served[first] += [lane for lane in lanes if not any(lane in own for own in served)]
    return [_with_lanes(worker, own) for worker, own in zip(running, served, strict=True) if own]


def _with_lanes(worker: Worker, lanes: Sequence[str]) -> Worker:
    of = worker.concurrency
    slots: dict[str, Any] = {"parallelism": worker.parallelism} if of is None else {"concurrency": of}
    runs = worker.mode is not WorkerMode.COORDINATOR
    return Worker(
        worker.agent,
        lanes=lanes if runs else None,
        name=worker.name,
        mode=worker.mode,
        buckets=worker.buckets,
        **slots,
    )


def _slots(worker: Worker, pool: str) -> int:
    if pool == "solo":
        return 1
    if pool == "processes" and worker.concurrency is None:
        return os.cpu_count() or 1
    return worker.slots


def _check_pool(app: JobMaster, pool: str) -> None:
    if pool != "asyncio":
        return
    sync = sorted(definition.name for definition in app.registry if not definition.is_async)
    if sync:
        raise ConfigurationError(
            f"The pool asyncio runs async tasks only, and {sync[0]!r}{' and others are' if sync[1:] else ' is'} not "
            "async. Use the pool threads, which runs both, or write async def."
        )
