"""`jobmaster doctor`: looks at everything that a cluster needs, and says what to repair."""

from __future__ import annotations

import os
import sys
import threading
from typing import Final

import click

from jobmaster.cli.checks.finding import Finding, State
from jobmaster.cli.checkup import Checkup
from jobmaster.cli.failures import FAILED, UNREACHABLE
from jobmaster.cli.invocation import Invocation, common_options, pass_invocation
from jobmaster.cli.output import printable, show_json

_COLOURS = {State.OK: "green", State.WARNING: "yellow", State.FAULT: "red"}
_MARKS = {State.OK: "ok  ", State.WARNING: "warn", State.FAULT: "FAIL"}
_WIDTH: Final = 13
"""Of the longest name of a check."""
ALL_WITHIN: Final = 90.0
"""Seconds after which the command ends whatever a driver, or the app's own code, does."""


@click.command()
@common_options
@pass_invocation
def doctor(invocation: Invocation, /) -> None:
    """Check everything that a cluster needs, and say what to repair.

    Nothing is changed. Each line is printed as soon as it is known; no check takes longer than a few seconds. Exit
    code 0: no fault (warnings are none); 1: a fault; 3: a store cannot be reached.
    """
    checkup = Checkup(lambda _finding: None if invocation.as_json else _show(_finding))
    watchdog = threading.Timer(ALL_WITHIN, _give_up, (invocation, checkup))
    watchdog.daemon = True
    watchdog.start()
    checkup.run(invocation)
    watchdog.cancel()
    code = _close(invocation, checkup)
    if checkup.stuck:
        _leave(code)  # the thread of a check that hangs may hold what the end of the program waits for
    if code:
        raise click.exceptions.Exit(code)


def _give_up(invocation: Invocation, checkup: Checkup) -> None:
    if sys.__stdout__ is not None:  # while the app is imported, what is printed goes to stderr
        sys.stdout = sys.__stdout__
    advice = "The line before shows where. Is a server frozen, or does a module of the app wait for something?"
    checkup.findings.append(Finding("doctor", State.FAULT, f"not done within {ALL_WITHIN:g} s", advice))
    if not invocation.as_json:
        _show(checkup.findings[-1])
    _leave(_close(invocation, checkup) or FAILED)


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _close(invocation: Invocation, checkup: Checkup) -> int:
    """Print the sum; the answer is the exit code."""
    findings = checkup.findings
    faults = sum(finding.state is State.FAULT for finding in findings)
    if invocation.as_json:
        show_json({"ok": not faults, "checks": [_plain(one) for one in findings], "left_out": checkup.left_out})
    else:
        warnings = sum(finding.state is State.WARNING for finding in findings)
        left = f" Left out because of that: {', '.join(checkup.left_out)}." if checkup.left_out else ""
        click.echo(f"\n{faults} faults, {warnings} warnings, {len(findings)} checks.{left}")
    if any(finding.is_unreachable for finding in findings):
        return UNREACHABLE
    return FAILED if faults else 0


def _plain(finding: Finding) -> dict[str, str]:
    return {
        "check": finding.check,
        "store": finding.store,
        "state": finding.state.name.lower(),
        "fact": finding.fact,
        "advice": finding.advice,
        "details": finding.details,
    }


def _show(finding: Finding) -> None:
    click.secho(_MARKS[finding.state], fg=_COLOURS[finding.state], nl=False)
    where = f"{finding.store}: " if finding.store not in {"", "master"} else ""
    indent = f"      {'':<{_WIDTH}}  "
    # An expression that cannot be read comes with a caret below the place.
    fact = printable(finding.fact, keep_lines=True).replace("\n", f"\n{indent}")
    click.echo(f"  {finding.check:<{_WIDTH}}  {where}{fact}")
    for line in finding.details.splitlines():
        click.echo(f"{indent}| {printable(line)}")
    if finding.advice:
        click.echo(f"{indent}-> {printable(finding.advice)}")
    sys.stdout.flush()
