"""Every error that JobMaster raises, as one tree.

    JobMasterError
    ├── ConfigurationError (ValueError)      a setting or a call cannot work as given
    │   └── ClusterMismatch                  two places disagree about which cluster this is
    ├── SchemaError                          the database's schema is older or newer than this code
    ├── NotRegistered (LookupError)          nobody registered a task, handler or type under this name
    ├── MessageTooLarge (ValueError)         a payload is above max_message_bytes
    ├── SerializationError (TypeError)       a value cannot travel in a message
    ├── ScheduleSyntaxError (ValueError)     an expression cannot be read
    ├── ScheduleConflict                     somebody else changed the schedule meanwhile
    ├── ClusterArchived                      the cluster takes no work
    ├── StoreUnavailable (ConnectionError)   no store answered; nothing was stored
    │   └── OutcomeUnknown                   a store may have stored it; repeat with the same id
    ├── DuplicateJob                         a job with this unique key or id exists
    ├── ResultTimeout (TimeoutError)         the result did not come in time; the job goes on
    ├── ResultExpired (LookupError)          the job succeeded; its result was kept for a while only
    ├── JobFailed                            the job ended as Failed
    │   ├── WorkerLostError                  ... because its worker vanished
    │   └── TimeLimitExceeded                ... because its hard time limit passed
    ├── JobCancelled                         the job ended as Cancelled
    ├── SoftTimeLimitExceeded                raised inside a task when its soft limit passes
    ├── MissingEntry (KeyError)              message data has no such entry (model.message_data)
    └── store answers (ports.answers)        Fenced, Refused: for the engine, never for users

`Retry`, `Ignore` and `Reject` are raised inside a task to steer it. They are no errors and stand outside of the tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta


class JobMasterError(Exception):
    """Base of every error of JobMaster."""


class ConfigurationError(JobMasterError, ValueError):
    """A setting, or a call, that cannot work as given. The text says what, why and what to do."""


class ClusterMismatch(ConfigurationError):  # noqa: N818 - a name of the public API
    """Two places disagree about a cluster: its id, its lease, its retention, or where an agent is."""


class SchemaError(JobMasterError):
    """The database's schema is older or newer than this version of JobMaster."""


class NotRegistered(JobMasterError, LookupError):  # noqa: N818 - a name of the public API
    """No task, handler or type is registered under the name."""


class MessageTooLarge(JobMasterError, ValueError):  # noqa: N818 - a name of the public API
    """A job's payload or a result is above its limit. Nothing was stored."""


class SerializationError(JobMasterError, TypeError):
    """A value cannot be written to, or read from, a message. The text names the path to the value."""


class ScheduleSyntaxError(JobMasterError, ValueError):
    """A schedule expression cannot be read. Its text shows the expression with carets under the wrong place.

    Attributes:
        message: what is wrong, without the position.
        position: index of the first wrong character, from 0; behind the last one where something is missing at the end.
        length: number of wrong characters, at least 1.
        text: the expression, empty where it is not known.
        kind: the reason as a short name ("unknown-token"), empty where the language has none.
        suggestion: what to write instead, or an empty text.
        others: what else is wrong with the same text, in order.
    """

    def __init__(
        self,
        message: str,
        position: int = 0,
        *,
        length: int = 1,
        text: str = "",
        kind: str = "",
        suggestion: str = "",
        others: tuple[ScheduleSyntaxError, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.position = position
        self.length = length
        self.text = text
        self.kind = kind
        self.suggestion = suggestion
        self.others = others

    @property
    def errors(self) -> tuple[ScheduleSyntaxError, ...]:
        """Everything that is wrong: this error first."""
        return (self, *self.others)

    def __str__(self) -> str:
        first, *others = dict.fromkeys(error.sentence() for error in self.errors)
        lines = [first]
        if self.text:
            lines += _with_carets(self.text, [(error.position, error.length) for error in self.errors])
        return "\n".join([*lines, *(f"also: {other}" for other in others)])

    def sentence(self) -> str:
        """What is wrong and what was meant, in one line; control characters of the expression are told by number."""
        said = f"{self.message}; did you mean `{self.suggestion}`?" if self.suggestion else self.message
        return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in said)


_SHOWN = 100


def _with_carets(text: str, places: Sequence[tuple[int, int]]) -> list[str]:
    """The text, or what is around the first place, with carets below all places (position and length)."""
    position = places[0][0]
    first = max(0, position - _SHOWN // 2) if len(text) > _SHOWN else 0
    before, after = ("... " if first else ""), (" ..." if first + _SHOWN < len(text) else "")
    shown = "".join(letter if letter.isprintable() else " " for letter in text[first : first + _SHOWN])
    wrong = {column for start, length in places for column in range(start, start + length)}
    last = max(position, first + len(shown) - 1)
    carets = "".join("^" if column in wrong else " " for column in range(first, last + 1)).rstrip()
    return [f"  {before}{shown}{after}", f"  {' ' * len(before)}{carets}"]


class ScheduleConflict(JobMasterError):  # noqa: N818 - a name of the public API
    """Somebody else changed the schedule meanwhile, so that nothing was changed.

    Attributes:
        version: the version that it has now.
    """

    def __init__(self, message: str, *, version: int) -> None:
        super().__init__(message)
        self.version = version


class ClusterArchived(JobMasterError):  # noqa: N818 - a name of the public API
    """The cluster is archived: it can be read, and takes no work."""


class StoreUnavailable(JobMasterError, ConnectionError):  # noqa: N818 - a name of the public API
    """No store answered in time. What was asked for has certainly not been stored."""


class OutcomeUnknown(StoreUnavailable):
    """A store may or may not have stored the job. Repeating the call with `job_id` is safe.

    Attributes:
        job_id: the id to repeat with, or None where no single job is meant.
    """

    def __init__(self, message: str, *, job_id: str | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id


class DuplicateJob(JobMasterError):  # noqa: N818 - a name of the public API
    """A job with this id or unique key exists already.

    Attributes:
        existing: the id of the job that stands in the way.
    """

    def __init__(self, message: str, *, existing: str) -> None:
        super().__init__(message)
        self.existing = existing


class ResultTimeout(JobMasterError, TimeoutError):  # noqa: N818 - a name of the public API
    """The result did not come within the timeout. The job itself goes on."""


class ResultExpired(JobMasterError, LookupError):  # noqa: N818 - a name of the public API
    """The job succeeded, and its result was cleared because `keep_result` had passed."""


class JobFailed(JobMasterError):  # noqa: N818 - a name of the public API
    """The job ended as Failed.

    Attributes:
        error_type: qualified name of the exception's type, or the reason ("expired", "quarantined", ...).
        message: text of the exception.
        traceback: formatted traceback of the last attempt, may be empty.
    """

    def __init__(self, error_type: str, message: str = "", traceback: str = "") -> None:
        super().__init__(f"{error_type}: {message}" if message else error_type)
        self.error_type = error_type
        self.message = message
        self.traceback = traceback


class WorkerLostError(JobFailed):
    """The job's worker vanished while it ran, and the job may not run again."""


class TimeLimitExceeded(JobFailed):
    """The job ran longer than its hard time limit and was stopped."""


class JobCancelled(JobMasterError):  # noqa: N818 - a name of the public API
    """The job was cancelled."""


class SoftTimeLimitExceeded(JobMasterError):  # noqa: N818 - a name of the public API
    """Raised inside a task when its soft time limit passes; it may clean up and end."""


class Retry(Exception):  # noqa: N818 - control flow, no error
    """Raise inside a task to end this attempt and ask for another one.

    Args:
        reason: text kept with the attempt.
        countdown: seconds or timedelta until the next attempt; None: the task's own back-off.
        at: moment of the next attempt (aware), instead of `countdown`.
        max_retries: overrides the task's limit for this job.
    """

    def __init__(
        self,
        reason: str = "",
        *,
        countdown: float | timedelta | None = None,
        at: datetime | None = None,
        max_retries: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.countdown = countdown
        self.at = at
        self.max_retries = max_retries


class Ignore(Exception):  # noqa: N818 - control flow, no error
    """Raise inside a task to end it as Succeeded without a result (reason "ignored")."""


class Reject(Exception):  # noqa: N818 - control flow, no error
    """Raise inside a task to end it as Failed without a retry, or to give it back.

    Args:
        reason: text kept with the job.
        requeue: True gives the job back to the master, due now, without counting an attempt as failed.
    """

    def __init__(self, reason: str = "rejected", *, requeue: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.requeue = requeue
