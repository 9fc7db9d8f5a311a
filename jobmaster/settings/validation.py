"""What settings must not say together. Each check gives sentences: what, why, what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from jobmaster.model.durations import duration_text
from jobmaster.model.states import ClusterMode, WorkerMode
from jobmaster.settings.dsn import Dsn
from jobmaster.settings.values import Settings


def contradictions(settings: Settings, origins: Mapping[str, str]) -> list[str]:
    """Every fault that only shows when values are seen together.

    Args:
        settings: values that are each inside their own limits.
        origins: where each came from, by dotted name.
    """
    checks = (_master, _agents, _workers, _lanes, _lease, _retention)
    return [fault for check in checks for fault in check(settings, origins)]


def archive_faults(source: Settings, target: Settings) -> list[str]:
    """What keeps `target` from being the archive of `source`, as far as their settings say."""
    what = f"archive_to of cluster {source.cluster_id!r} is {target.cluster_id!r}, which "
    faults = []
    if target.cluster_mode is not ClusterMode.ARCHIVED:
        faults.append(
            f"{what}is {target.cluster_mode.name.lower()}: jobs moved there could run again. "
            "Set its cluster_mode to archived."
        )
    if target.agents:
        faults.append(f"{what}has agents, but an archive takes no work. Remove its agents.")
    if any(worker.mode is not WorkerMode.COORDINATOR for worker in target.workers):
        faults.append(f"{what}has workers that run jobs. Give its workers the mode coordinator.")
    return faults


def _master(settings: Settings, origins: Mapping[str, str]) -> Iterator[str]:
    if not settings.master.is_sql:
        yield (
            f"master is {settings.master} ({origins['master']}), but NATS keeps messages, not the history that a "
            "master holds. Declare it as an agent, agents=[Agent('nats-1', url)], and give a SQL database as master."
        )


def _agents(settings: Settings, origins: Mapping[str, str]) -> Iterator[str]:
    places: dict[tuple[object, ...], str] = {}
    for agent in settings.agents:
        other = places.setdefault(_place(agent.dsn), agent.name)
        if other != agent.name:
            yield (
                f"agents {other!r} and {agent.name!r} ({origins[f'agents.{agent.name}']}) are the same store, so that "
                "each would take the other's messages for its own. Remove one, or point it elsewhere."
            )


def _place(dsn: Dsn) -> tuple[object, ...]:
    # One NATS server keeps the streams of different accounts apart.
    account = dsn.user if not dsn.is_sql else ""
    return (dsn.kind, dsn.path, dsn.host, dsn.port, dsn.database, account, tuple(sorted(dsn.options.items())))


def _workers(settings: Settings, origins: Mapping[str, str]) -> Iterator[str]:
    known = [agent.name for agent in settings.agents]
    names: set[str] = set()
    for number, worker in enumerate(settings.workers, 1):
        what = f"worker {worker.name or number} ({origins['workers']})"
        if worker.name in names:
            yield f"{what}: another worker has the same name, and each would end the other's lease. Rename one."
        if worker.name:
            names.add(worker.name)
        if worker.agent is not None and worker.agent not in known:
            yield _unknown_agent(what, worker.agent, known)
        elif worker.agent is None and len(known) > 1 and worker.mode is not WorkerMode.COORDINATOR:
            yield f"{what} names no agent, but there are {len(known)}. Give it agent= one of {', '.join(known)}."
        for priority in (priority for priority, count in worker.buckets.items() if count):
            if settings.is_disabled(priority):
                name = priority.name.lower()
                yield (
                    f"{what} opens buckets for the priority {name}, which the cluster has switched off "
                    f"({origins[f'buckets.{name}']}). Switch it on there, or give the worker 0."
                )


def _unknown_agent(what: str, agent: str, known: list[str]) -> str:
    if not known:
        return (
            f"{what} names the agent {agent!r}, but the cluster is standalone: it declares no agents. "
            f"Declare agents=[Agent({agent!r}, url)], or leave the worker's agent out."
        )
    return f"{what} names the agent {agent!r}, which is not declared. Known are {', '.join(known)}."


def _lanes(settings: Settings, origins: Mapping[str, str]) -> Iterator[str]:
    spelled: dict[str, str] = {}
    for lane in dict.fromkeys(lane for worker in settings.workers for lane in worker.lanes):
        twin = spelled.setdefault(lane.lower(), lane)
        if twin != lane:
            yield (
                f"workers ({origins['workers']}) serve the lanes {twin!r} and {lane!r}, which differ in upper and "
                "lower case only and are two lanes. Spell both alike, or rename one."
            )


def _lease(settings: Settings, origins: Mapping[str, str]) -> Iterator[str]:
    if settings.renew_every * 2 >= settings.lease:
        yield (
            f"renew_every is {duration_text(settings.renew_every)} ({origins['renew_every']}), but must be less than "
            f"half of lease, {duration_text(settings.lease)} ({origins['lease']}), because a lease must outlive a lost "
            "renewal. Lower renew_every or raise lease."
        )


def _retention(settings: Settings, origins: Mapping[str, str]) -> Iterator[str]:
    kept, result = settings.retention, settings.keep_result
    if kept is not None and result is not None and result > kept:
        yield (
            f"keep_result is {duration_text(result)} ({origins['keep_result']}), longer than retention, "
            f"{duration_text(kept)} ({origins['retention']}), but a result goes with its job. "
            "Lower keep_result or raise retention."
        )
    if settings.archive_to is None:
        return
    if kept is None:
        yield (
            f"archive_to is {settings.archive_to!r} ({origins['archive_to']}), but retention is none, so that no job "
            "ever becomes old enough to be moved. Set retention, or leave archive_to out."
        )
    if settings.archive_to == settings.cluster_id:
        yield f"archive_to ({origins['archive_to']}) is the cluster itself. Name another cluster, or leave it out."
