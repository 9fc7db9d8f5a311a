"""What the end of a run means, and what it means when the run had been told to stop."""

from __future__ import annotations

import traceback

from jobmaster.errors import SoftTimeLimitExceeded
from jobmaster.model.job import ErrorInfo, exception_name
from jobmaster.model.reasons import TIMED_OUT
from jobmaster.model.run import End, Ended, Halt

PATIENCE = 1.0
"""Seconds that a run gets to clean up after it was told to end, before it is told again or counts as stuck."""

_STOPPED = {
    Halt.CANCEL: Ended(End.CANCELLED),
    Halt.HARD_LIMIT: Ended(End.TIMED_OUT, reason=TIMED_OUT),
    Halt.SHUTDOWN: Ended(End.INTERRUPTED),
    Halt.SOFT_LIMIT: Ended(
        End.RAISED, error=ErrorInfo("jobmaster.errors.SoftTimeLimitExceeded", "the run's soft time limit passed")
    ),
}


def stopped(why: Halt) -> Ended:
    """The end of a run that was stopped from outside, without a word of its own."""
    return _STOPPED[why]


def after_halt(why: Halt | None, ended: Ended) -> Ended:
    """The end that counts. A run that was told to stop and fails, fails because of that; one that returns has returned.

    After the hard limit nothing but the limit counts, whatever the run still managed to do.
    """
    if why is None or why is Halt.SOFT_LIMIT:
        return ended
    if why is Halt.HARD_LIMIT or ended.end is End.RAISED:
        return stopped(why)
    return ended


def from_exception(error: BaseException, why: Halt | None) -> Ended:
    """The end of a run that an exception left, past the workload: a stop that we sent, or `SystemExit` and the like."""
    if why is not None and not isinstance(error, SoftTimeLimitExceeded):
        return stopped(why)
    trace = "".join(traceback.format_exception(error))
    return Ended(End.RAISED, error=ErrorInfo(exception_name(error), str(error), trace))
