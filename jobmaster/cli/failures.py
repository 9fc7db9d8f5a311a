"""From an exception to an exit code and a few words: what, why, what to do next. No traceback for what is expected."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from typing import Final

import click

from jobmaster.cli.output import printable
from jobmaster.errors import (
    ConfigurationError,
    JobFailed,
    JobMasterError,
    OutcomeUnknown,
    ScheduleSyntaxError,
    StoreUnavailable,
)

logger = logging.getLogger("jobmaster.cli")

FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130


class Failure(Exception):  # noqa: N818 - it is the command's answer, told and never caught elsewhere
    """A command did what it was asked for, and the answer is bad.

    Args:
        message: what, why, what to do.
        code: the exit code.
    """

    def __init__(self, message: str, *, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def tell(error: BaseException, *, as_json: bool) -> int:
    """Tell an error on stderr; the answer is the exit code. What nobody expected is raised again.

    Raises:
        BaseException: `error` itself, where it is a fault of the program.
    """
    error = _alone(error)
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return INTERRUPTED
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        # Whoever read our output has gone (`jobmaster jobs list | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        error = Failure(f"The output cannot be written: {error.strerror}. Free space there, or send it elsewhere.")
    code = code_of(error)
    if code is None:
        raise error
    if as_json:
        told = {"type": type(error).__name__, "message": _message(error), "exit_code": code, **_place(error)}
        click.echo(json.dumps({"error": told}), err=True)
    elif isinstance(error, click.ClickException):
        error.show()
    else:
        _show(error)
    return code


def log_failure(error: BaseException) -> int | None:
    """Write an error to the log, in place of words on stderr; the answer is its exit code.

    None where nobody expected it: then nothing is written.
    """
    error = _alone(error)
    code = code_of(error)
    if code is not None:
        details = str(getattr(error, "details", "")).rstrip()
        logger.error("command_failed exit_code=%d: %s", code, "\n".join(filter(None, (_message(error), details))))
    return code


def _alone(error: BaseException) -> BaseException:
    """What a group of one stands for."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def code_of(error: BaseException) -> int | None:
    """The exit code for an error; None for one that nobody expected."""
    if isinstance(error, Failure):
        return error.code
    if isinstance(error, click.ClickException):
        return error.exit_code
    if isinstance(error, StoreUnavailable):
        return UNREACHABLE
    if isinstance(error, (ConfigurationError, ScheduleSyntaxError)):
        return USAGE
    return FAILED if isinstance(error, JobMasterError) else None


def _message(error: BaseException) -> str:
    return error.format_message() if isinstance(error, click.ClickException) else str(error)


def _place(error: BaseException) -> dict[str, object]:
    """Where an expression is wrong, for programs that show it in their own way."""
    if not isinstance(error, ScheduleSyntaxError):
        return {}
    return {"position": error.position, "length": error.length, "suggestion": error.suggestion}


def _show(error: BaseException) -> None:
    click.secho("Error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(printable(_message(error), keep_lines=True), err=True)
    if isinstance(error, JobFailed) and error.traceback:
        click.echo(printable(error.traceback, keep_lines=True), err=True)
    if isinstance(error, OutcomeUnknown) and error.job_id:
        click.echo(f"Job id to repeat with: {error.job_id}", err=True)
    details = getattr(error, "details", "")  # of an app that cannot be imported: the user's own traceback
    if details:
        click.echo(printable(str(details), keep_lines=True), err=True, nl=False)
