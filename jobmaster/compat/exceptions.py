"""Celery's exceptions, under their names.

`Retry`, `Ignore` and `Reject` are also JobMaster's own, so that both raise the same way; so are the time limits.
"""

from __future__ import annotations

import builtins
from datetime import datetime
from typing import Any

from jobmaster import errors
from jobmaster.errors import ConfigurationError as ImproperlyConfigured
from jobmaster.errors import Ignore, NotRegistered, SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from jobmaster.errors import StoreUnavailable as OperationalError

__all__ = [
    "CeleryError",
    "CeleryWarning",
    "Ignore",
    "ImproperlyConfigured",
    "MaxRetriesExceededError",
    "NoEffectWarning",
    "NotRegistered",
    "OperationalError",
    "Reject",
    "Retry",
    "SoftTimeLimitExceeded",
    "TaskError",
    "TaskRevokedError",
    "TimeLimitExceeded",
    "TimeoutError",
    "WorkerLostError",
]


class CeleryError(Exception):
    """Base of the exceptions that Celery defines itself."""


class TaskError(CeleryError):
    """Base of what goes wrong with a task."""


class TimeoutError(TaskError, builtins.TimeoutError):  # noqa: A001 - Celery's name
    """The result did not come in time. The task goes on."""


class TaskRevokedError(TaskError):
    """The task was revoked, or had expired before it could start."""


class MaxRetriesExceededError(TaskError):
    """`self.retry()` was called when no retry was left.

    Attributes:
        task_args: positional arguments of the task.
        task_kwargs: its arguments by name.
    """

    def __init__(
        self, *args: object, task_args: tuple[Any, ...] = (), task_kwargs: dict[str, Any] | None = None
    ) -> None:
        super().__init__(*args)
        self.task_args = task_args
        self.task_kwargs = task_kwargs or {}


class Retry(errors.Retry):
    """What `self.retry()` raises: this attempt ends, another one will follow.

    Attributes:
        exc: the exception that was given as the reason, or None.
        when: seconds until the next attempt, or its moment.
    """

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | None = None,
        when: float | datetime | None = None,
        *,
        max_retries: int | None = None,
    ) -> None:
        moment = when if isinstance(when, datetime) else None
        wait = None if isinstance(when, datetime) else when
        super().__init__(message or "", countdown=wait, at=moment, max_retries=max_retries)
        self.exc = exc
        self.when = when


class Reject(errors.Reject):
    """The task ends as FAILURE without a retry; `requeue=True` gives it back to be run again."""

    def __init__(self, reason: object = None, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - Celery's signature
        super().__init__("rejected" if reason is None else str(reason), requeue=requeue)


class CeleryWarning(UserWarning):
    """Base of the warnings."""


class NoEffectWarning(CeleryWarning):
    """A setting or an option that Celery knows and that changes nothing here. The text names it."""
