"""`jobmaster doctor`: looks at everything that a cluster needs, and says what to repair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobmaster.cli.checkup import Finding, State, check_installation, check_up
from jobmaster.cli.failures import FAILED, UNREACHABLE, code_of
from jobmaster.cli.invocation import Invocation, common_options, pass_invocation
from jobmaster.cli.output import printable, show_json

if TYPE_CHECKING:
    from collections.abc import Sequence

_COLOURS = {State.OK: "green", State.WARNING: "yellow", State.FAULT: "red"}
_MARKS = {State.OK: "ok  ", State.WARNING: "warn", State.FAULT: "FAIL"}


@click.command()
@common_options
@pass_invocation
def doctor(invocation: Invocation, /) -> None:
    """Check everything that a cluster needs, and say what to repair.

    Nothing is changed. Exit code 0: no fault (warnings are none); 1: a fault; 3: the master cannot be reached.
    """
    findings = check_installation()
    code = 0
    try:
        app = invocation.app()
    except Exception as error:
        expected = code_of(error)
        if expected is None or isinstance(error, click.UsageError):
            raise
        findings.append(Finding("app", State.FAULT, str(error)))
        code = FAILED
    else:
        findings += check_up(app)
    if any(finding.is_unreachable for finding in findings):
        code = UNREACHABLE
    elif any(finding.state is State.FAULT for finding in findings):
        code = FAILED
    _show(invocation, findings)
    if code:
        raise click.exceptions.Exit(code)


def _show(invocation: Invocation, findings: Sequence[Finding]) -> None:
    if invocation.as_json:
        checks = [
            {
                "check": finding.check,
                "state": finding.state.name.lower(),
                "fact": finding.fact,
                "advice": finding.advice,
            }
            for finding in findings
        ]
        show_json({"ok": all(finding.state is not State.FAULT for finding in findings), "checks": checks})
        return
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        click.secho(_MARKS[finding.state], fg=_COLOURS[finding.state], nl=False)
        click.echo(f"  {finding.check:<{width}}  {printable(finding.fact)}")
        if finding.advice:
            click.echo(f"      {'':<{width}}  -> {printable(finding.advice)}")
    faults = sum(finding.state is State.FAULT for finding in findings)
    warnings = sum(finding.state is State.WARNING for finding in findings)
    click.echo(f"\n{faults} faults, {warnings} warnings, {len(findings)} checks.")
