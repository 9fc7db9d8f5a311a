"""What a worker says when it is ready."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

import jobmaster
from jobmaster.cli.output import printable, survival

if TYPE_CHECKING:
    from jobmaster.findings import Found
    from jobmaster.supervising import EngineState, Promise
    from jobmaster.worker_order import WorkerOrder

MOST_TASKS = 12
Warn = Callable[[str], None]
"""Tells people something that is worth a look."""


def show_banner(order: WorkerOrder, found: Found, promised: Sequence[Promise]) -> None:
    """Print the banner: app, master (password hidden, path in full), agents, durability, lanes, tasks found."""
    settings = found.settings
    agents = [f"{agent.name} {agent.dsn}" for agent in settings.agents] or ["the master itself (standalone)"]
    click.secho(f"\njobmaster {jobmaster.__version__}  ready", bold=True)
    facts = [
        ("app", f"{order.place}, cluster {settings.cluster_id} ({settings.cluster_mode.name.lower()})"),
        ("master", str(settings.master)),
        ("agent", "\n".join(agents)),
        ("durability", "\n".join(_promise_line(promise) for promise in promised)),
        ("worker", "\n".join(_engine_lines(found))),
        ("lanes", _lanes(found)),
        ("tasks", "\n".join(_task_lines(found))),
        *([("schedules", "\n".join(_schedule_lines(found)))] if found.schedules else []),
    ]
    for name, text in facts:
        first, *rest = text.split("\n")
        click.echo(f"  {name:<11}{printable(first)}")
        for line in rest:
            click.echo(f"  {'':<11}{printable(line)}")
    click.echo("  Ctrl-C stops gracefully; a second one hands running jobs back at once.\n")


def banner_facts(order: WorkerOrder, found: Found, promised: Sequence[Promise]) -> dict[str, object]:
    """What the banner says, for programs."""
    return {
        "ready": True,
        "app": order.place,
        "cluster": found.settings.cluster_id,
        "master": str(found.settings.master),
        "agents": {agent.name: str(agent.dsn) for agent in found.settings.agents},
        "durability": {promise.store: promise.survives for promise in promised},
        "workers": [plan.name for plan in found.plans],
        "lanes": sorted({lane or "default" for plan in found.plans for lane in plan.lanes}),
        "tasks": [task.name for task in found.tasks],
        "schedules": found.schedules,
    }


def warn_of_found(found: Found, warn: Warn) -> None:
    """Say what will not work as it may have been meant."""
    for lane in found.unserved:
        warn(f"This worker does not serve the lane {lane!r}, which a task names: its jobs wait for one with -Q {lane}.")
    for warning in found.warnings:
        warn(warning)


def warn_of_promises(found: Found, promised: Sequence[Promise], warn: Warn) -> None:
    """Say where a store promises less than the app asked for."""
    wanted = found.settings.survives.value
    for promise in promised:
        if promise.survives == "unknown":
            warn(f"What an acceptance by {promise.store} survives is not known: {promise.evidence}")
        elif wanted == "host" and promise.survives != "host":
            warn(
                f"A job that {promise.store} has accepted {survival(promise.survives)} ({promise.evidence}), but the "
                'app asks for the end of the host. Change the server\'s setting, or say survives="process".'
            )


def warn_of_replaced(engines: Sequence[EngineState], warn: Warn) -> None:
    """Say whose place these engines took while its lease was alive."""
    for old in [engine.replaced for engine in engines if engine.replaced is not None]:
        warn(
            f"Another process of this worker's name had a living lease (host {old.host}, pid {old.pid}), which ended "
            "when this one began. If it still runs, it stops now: two workers need two names, so give one of them "
            "another with --name."
        )


def _promise_line(promise: Promise) -> str:
    return f"{promise.store}: an accepted job {survival(promise.survives)} ({promise.evidence})"


def _lanes(found: Found) -> str:
    lanes = sorted({lane or "default" for plan in found.plans for lane in plan.lanes})
    return ", ".join(lanes)


def _engine_lines(found: Found) -> list[str]:
    return [
        f"{plan.name}: {plan.mode.lower()}, {plan.slots} slots, {plan.pool}"
        + (f", agent {plan.agent}" if found.settings.agents else "")
        for plan in found.plans
    ]


def _task_lines(found: Found) -> list[str]:
    shown = [
        f"{task.name}{f' (lane {task.lane})' if task.lane else ''}{' async' if task.is_async else ''}"
        for task in found.tasks[:MOST_TASKS]
    ]
    more = len(found.tasks) - len(shown)
    if more:
        shown.append(f"and {more} more")
    return [f"{len(found.tasks)} found", *(f". {line}" for line in shown)]


def _schedule_lines(found: Found) -> list[str]:
    shown = [f". {name}" for name in found.schedules[:MOST_TASKS]]
    more = len(found.schedules) - len(shown)
    return [f"{len(found.schedules)} in code and files", *shown, *([f". and {more} more"] if more else [])]
