"""A visit to the doctor within the test's process: what it found, by check, as its lines would show it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from jobmaster import JobMaster
from jobmaster.cli import checkup as checkups
from jobmaster.cli.checks.finding import Finding, State
from jobmaster.cli.checkup import Checkup
from jobmaster.cli.invocation import Invocation
from tests.cli.terminal import PATIENCE

LIMITS = {"CHECK_WITHIN": checkups.CHECK_WITHIN, "QUESTION_WITHIN": checkups.QUESTION_WITHIN}
"""What the doctor allows; a busy machine is no illness."""


class Visit:
    """What a checkup found."""

    def __init__(self, checkup: Checkup) -> None:
        self.findings = checkup.findings
        self.left_out = checkup.left_out
        self.stuck = checkup.stuck

    def bad(self) -> dict[str, Finding]:
        """The findings that are not well, by check."""
        return {one.check: one for one in self.findings if one.state is not State.OK}

    def troubles(self) -> dict[str, str]:
        """State and fact by check, of those that are not well."""
        return {one.check: f"{one.state.name} {one.fact} -> {one.advice}" for one in self.bad().values()}

    def one(self, check: str) -> Finding:
        """The only finding of a check."""
        (found,) = [one for one in self.findings if one.check == check]
        return found


def consult(
    folder: Path,
    *,
    cluster: str = "visited",
    change: Callable[[JobMaster], object] = lambda _app: None,
    **settings: Any,
) -> Visit:
    """Have an app with one task looked at.

    Args:
        folder: of the app.
        cluster: its id.
        change: what is done with the app before.
        settings: of the app.
    """
    settings = {"accept_timeout": PATIENCE} | settings
    with closing(JobMaster(cluster, folder=str(folder), **settings)) as app, ExitStack() as patient:
        for name, usual in LIMITS.items():
            if getattr(checkups, name) == usual:  # else the test has set its own
                patient.enter_context(patch.object(checkups, name, PATIENCE))
        app.task(len_of)
        change(app)
        checkup = Checkup(lambda _finding: None)
        checkup.run(cast("Invocation", _Found(app)))
        return Visit(checkup)


class _Found:
    """An invocation whose app is there."""

    def __init__(self, app: JobMaster) -> None:
        self._app = app

    def app(self) -> JobMaster:
        return self._app


def len_of(text: str) -> int:
    return len(text)


def provisioned(folder: Path, **settings: Any) -> None:
    """Make the master of `consult`."""
    with closing(JobMaster("visited", folder=str(folder), accept_timeout=PATIENCE, **settings)) as app:
        app.jobs.count()
