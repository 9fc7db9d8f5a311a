"""The course of `jobmaster doctor`: which check follows which, the time that each gets, and what is left out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from jobmaster.cli.checks import app as app_checks
from jobmaster.cli.checks import cluster, installation, jobs, schedules
from jobmaster.cli.checks.finding import Finding, State
from jobmaster.cli.checks.schema import schema
from jobmaster.cli.checks.stores import judged
from jobmaster.errors import JobMasterError, StoreUnavailable

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.cli.invocation import Invocation
    from jobmaster.model.examination import Examination
    from jobmaster.settings import Dsn

CHECK_WITHIN: Final = 5.0
"""Seconds that one check may take."""
QUESTION_WITHIN: Final = 4.0
"""Seconds for a connection to a store, and for one question to it."""

Look = Callable[[], Sequence[Finding]]


class Checkup:
    """One run: cheap checks first, and what needs the master only while that answers.

    Args:
        tell: called with each finding as soon as it is there.

    Attributes:
        findings: all of them.
        left_out: the names of checks that could not be made, because an earlier one failed.
        stuck: a check did not come back, and its thread still waits for something.
    """

    def __init__(self, tell: Callable[[Finding], None]) -> None:
        self._tell = tell
        self._examined: dict[str, Examination] = {}
        self.findings: list[Finding] = []
        self.left_out: list[str] = []
        self.stuck = False

    def run(self, invocation: Invocation) -> None:
        """Look at everything.

        Raises:
            click.UsageError: nothing says where the app is.
        """
        self._check("python", installation.python)
        self._check("sqlite", installation.sqlite_library)
        self._check("host zone", installation.host_zone)
        app, found = installation.import_app(invocation)
        self._add(found)
        if app is None:
            self.left_out += ["tasks", "settings", "stores", "cluster", "jobs"]
            return
        for name, look in _OF_THE_APP.items():
            self._check(name, partial(look, app))
        good = [self._store(app, name, dsn) for name, dsn in app_checks.stores_of(app.settings).items()]
        if all(good):
            self._cluster(app)
        else:
            self.left_out += ["cluster", "jobs"]

    def _store(self, app: JobMaster, store: str, dsn: Dsn) -> bool:
        """Whether the store can be worked with as it is."""
        if any(finding.state is State.FAULT and finding.store == store for finding in self.findings):
            return False  # no driver, or no such store: said already
        kind = "master" if store == "master" else "agent"
        if not self._check(kind, partial(self._examine, app, store, dsn), store=store):
            return False
        examined = self._examined[store]
        _load_schema_tools()  # on a busy machine this takes seconds, which are not the store's
        good = self._check("schema", partial(schema, store, dsn, examined, app.settings), store=store)
        return good and not examined.is_empty

    def _examine(self, app: JobMaster, store: str, dsn: Dsn) -> Sequence[Finding]:
        from jobmaster.database import examine_store

        self._examined[store] = found = examine_store(dsn, timeout=QUESTION_WITHIN)
        return judged(store, dsn, found, app.settings)

    def _cluster(self, app: JobMaster) -> None:
        if not self._check("agreement", partial(cluster.agreement, app)) and self._has_no_answers():
            self.left_out += ["cluster", "jobs"]
            return
        self._check("workers", partial(cluster.workers, app))
        self._check("buckets", partial(cluster.buckets, app))
        self._check("broken", partial(schedules.broken, app))
        # In a large table these may take their time, which is no fault.
        self._check("unroutable", partial(jobs.unroutable, app), late=State.WARNING)
        self._check("quarantined", partial(jobs.quarantined, self._examined["master"]))
        self._check("waiting", partial(jobs.waiting, app, self._examined), late=State.WARNING)
        self._check("jobs", partial(jobs.counts, app), late=State.WARNING)

    def _has_no_answers(self) -> bool:
        return any(finding.is_unreachable or finding.is_anothers for finding in self.findings)

    def _check(self, name: str, look: Look, *, store: str = "", late: State = State.FAULT) -> bool:
        """Make a check within its time; `late` is how bad it is that no answer came. False: a fault was found."""
        found = self._within_time(name, look, store)
        if late is not State.FAULT:
            found = [
                replace(one, state=late, fact=f"not known: {one.fact}", is_unreachable=False)
                if one.is_unreachable
                else one
                for one in found
            ]
        self._add(found)
        return all(finding.state is not State.FAULT for finding in found)

    def _add(self, found: Sequence[Finding]) -> None:
        for finding in found:
            self.findings.append(finding)
            self._tell(finding)

    def _within_time(self, name: str, look: Look, store: str) -> Sequence[Finding]:
        answer: list[Sequence[Finding]] = []

        def work() -> None:
            answer.append(_looked(name, look, store))

        # A daemon: what hangs in a driver must not hold up the end of the program.
        thread = threading.Thread(target=work, name=f"jobmaster-check-{name}", daemon=True)
        thread.start()
        thread.join(CHECK_WITHIN)
        if answer:
            return answer[0]
        self.stuck = True
        fact = f"no answer within {CHECK_WITHIN:g} s"
        advice = "Is the server overloaded, frozen, or behind a network that swallows packets?"
        return [Finding(name, State.FAULT, fact, advice, store, is_unreachable=True)]


def _load_schema_tools() -> None:
    from jobmaster.database import load_schema_tools

    load_schema_tools()


def _looked(name: str, look: Look, store: str) -> Sequence[Finding]:
    try:
        return look()
    except StoreUnavailable as error:
        advice = "Is the server running, and are address, user and network right? See jobmaster config show."
        return [Finding(name, State.FAULT, str(error), advice, store, is_unreachable=True)]
    except JobMasterError as error:
        return [Finding(name, State.FAULT, str(error), store=store)]
    except Exception as error:  # noqa: BLE001 - a check that fails is a finding, and the others go on
        fact = f"the check itself failed: {type(error).__name__}: {error}"
        return [Finding(name, State.FAULT, fact, "Please report this with the versions above.", store)]


_OF_THE_APP: dict[str, Callable[[JobMaster], list[Finding]]] = {
    "tasks": app_checks.tasks,
    "schedules": schedules.in_code,
    "settings": app_checks.settings,
    "time zone": app_checks.time_zone,
    "retention": app_checks.retention,
    "driver": app_checks.drivers,
    "store": app_checks.supported_stores,
}
