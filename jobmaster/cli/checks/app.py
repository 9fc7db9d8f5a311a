"""The app as it stands: tasks, settings, and the drivers that its stores need. Nothing is connected to."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Final

from jobmaster.cli.checks.finding import Finding, State, judge
from jobmaster.cli.output import span
from jobmaster.errors import ConfigurationError
from jobmaster.model.states import ClusterMode
from jobmaster.settings import archive_faults, require_driver

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.settings import Dsn, Settings

NATS_THRESHOLD: Final = 120.0
"""Seconds: what a NATS agent holds for longer is redelivered by the server again and again."""


def stores_of(settings: Settings) -> dict[str, Dsn]:
    """Every store of the cluster by its name: the master, then the agents."""
    return {"master": settings.master, **{agent.name: agent.dsn for agent in settings.agents}}


def tasks(app: JobMaster) -> list[Finding]:
    """Whether there is anything to run."""
    names = sorted(definition.name for definition in app.registry)
    shown = ", ".join(names[:5]) + (", ..." if names[5:] else "")
    advice = "Put @jm.task on a function, or name the modules that have tasks in include=[...]."
    return [judge("tasks", f"{len(names)} found{f': {shown}' if names else ''}", good=bool(names), advice=advice)]


def settings(app: JobMaster) -> list[Finding]:
    """Warnings of the settings, and the mode."""
    findings = [Finding("settings", State.WARNING, warning) for warning in app.resolved.warnings]
    if not findings:
        changed = sum(origin not in {"default", "app"} for _, _, origin in app.resolved.rows())
        findings.append(Finding("settings", State.OK, f"valid; {changed} from environment and files"))
    if app.settings.cluster_mode is not ClusterMode.ACTIVE:
        mode = app.settings.cluster_mode.name.lower()
        findings.append(Finding("mode", State.WARNING, f"cluster_mode is {mode}: no job runs", "Set it to active."))
    return findings


def time_zone(app: JobMaster) -> list[Finding]:
    """The zone of schedules. One that does not exist is refused when the app is made."""
    given = next((origin for name, _, origin in app.resolved.rows() if name == "time_zone"), "default")
    told = "the default" if given == "default" else f"from {given}"
    return [Finding("time zone", State.OK, f"schedules count in {app.settings.time_zone}, {told}")]


def retention(app: JobMaster) -> list[Finding]:
    """Whether ended jobs go some day, and where to."""
    kept = app.settings.retention
    if kept is None:
        advice = 'Set retention="30d", or the master grows for ever.'
        return [Finding("retention", State.WARNING, "ended jobs are kept for ever", advice)]
    target = app.settings.archive_to
    if target is None:
        return [Finding("retention", State.OK, f"ended jobs are deleted after {span(kept)}")]
    try:
        faults = archive_faults(app.settings, app.cluster(target).settings)
    except ConfigurationError as error:
        faults = [str(error)]
    if faults:
        advice = "Until then aged jobs stay where they are, and the master grows."
        return [Finding("retention", State.FAULT, f"archive_to {target!r}: {' '.join(faults)}", advice)]
    return [Finding("retention", State.OK, f"ended jobs move to cluster {target} after {span(kept)}")]


def drivers(app: JobMaster) -> list[Finding]:
    """The Python modules, and the libraries of the system, that the stores need."""
    found = []
    for name, dsn in stores_of(app.settings).items():
        try:
            require_driver(dsn)
        except ConfigurationError as error:
            found.append(Finding("driver", State.FAULT, str(error), store=name))
        if dsn.kind == "mssql" and not _has_odbc():
            advice = "Install unixodbc (libodbc2) and Microsoft's msodbcsql18."
            found.append(Finding("driver", State.FAULT, f"{dsn} needs the system's libodbc", advice, name))
        if dsn.kind == "postgresql" and importlib.util.find_spec("psycopg") is None:
            fact = "psycopg is not installed: `jobmaster db` cannot work, and `delay()` is slower"
            found.append(Finding("driver", State.WARNING, fact, "Run: pip install 'psycopg[binary]'", name))
    if found:
        return found
    kinds = ", ".join(sorted({dsn.kind for dsn in stores_of(app.settings).values()}))
    return [Finding("driver", State.OK, f"installed, for {kinds}")]


def _has_odbc() -> bool:
    from ctypes.util import find_library

    return find_library("odbc") is not None


def supported_stores(app: JobMaster) -> list[Finding]:
    """Stores that an address can name, and this version cannot open yet."""
    found = []
    for name, dsn in stores_of(app.settings).items():
        if dsn.kind not in {"sqlite", "postgresql"}:
            fact = f"{dsn}: this version of JobMaster has no {dsn.kind} store"
            advice = "Use sqlite:///jobmaster.db or postgresql://HOST/DATABASE."
            found.append(Finding("store", State.FAULT, fact, advice, name))
        if dsn.kind == "nats" and app.settings.transient_threshold > NATS_THRESHOLD:
            fact = f"transient_threshold is {span(app.settings.transient_threshold)}, with a NATS agent"
            advice = 'Set transient_threshold="2m" or less.'
            found.append(Finding("threshold", State.WARNING, fact, advice, name))
    return found
