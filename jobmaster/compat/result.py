"""`AsyncResult`: a task that was sent, in Celery's words."""

from __future__ import annotations

import warnings
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from jobmaster.compat import states
from jobmaster.compat.current import current_app
from jobmaster.compat.exceptions import NoEffectWarning, TimeoutError  # noqa: A004 - Celery's name
from jobmaster.compat.rebuilding import exception_of, rebuilt
from jobmaster.context import running_job
from jobmaster.errors import ConfigurationError, JobCancelled, JobFailed, JobMasterError, ResultExpired, ResultTimeout
from jobmaster.model.reasons import EXPIRED
from jobmaster.model.states import JobStatus

if TYPE_CHECKING:
    from jobmaster.compat.app import Celery
    from jobmaster.result import Result
    from jobmaster.views import JobInfo

R_co = TypeVar("R_co", covariant=True)


class AsyncResult(Generic[R_co]):
    """A sent task.

    Args:
        id: its id.
        app: the app that it belongs to; the current one if not given.

    Attributes:
        id: its id, `task_id` too.
    """

    def __init__(self, id: str, *, app: Celery | None = None, native: Result[Any] | None = None) -> None:
        self.id = id
        self.app = app or current_app()
        self._native: Result[Any] = native or self.app.jobmaster.result(id)

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.id

    def get(self, timeout: float | None = None, *, propagate: bool = True, **others: Any) -> R_co:
        """Wait for the end of the task and return what it returned.

        Args:
            timeout: how long to wait, in seconds; None: as long as it takes.
            propagate: raise what the task raised; False returns the exception instead.
            others: Celery's `interval`, `no_ack`, `follow_parents` have no effect; others are refused.

        Raises:
            TimeoutError: it has not ended in time. It goes on.
            TaskRevokedError: it was revoked, or expired.
            RuntimeError: called inside a task, where it can wait for ever, or on a running event loop.
            Exception: what the task raised, with the `JobFailed` that has its traceback as the cause.
        """
        _check_others(others)
        if running_job() is not None:
            raise RuntimeError(
                "Never call result.get() within a task! It can wait for ever, for a slot that it holds itself. Let the "
                "other task go on with the work, or keep its id and look later."
            )
        try:
            return cast("R_co", self._native.get(timeout))
        except ResultTimeout as error:
            raise TimeoutError(str(error)) from None
        except ConfigurationError:
            if _is_on_a_running_loop():
                raise RuntimeError(
                    "result.get() on a running event loop would stop the loop until the task has ended. "
                    f"Write: await app.jobmaster.result({self.id!r}).aget()"
                ) from None
            raise
        except (JobFailed, JobCancelled) as error:
            raised = rebuilt(error)
            if not propagate:
                return cast("R_co", raised)
            raise raised from (None if raised is error else error)

    wait = get

    @property
    def state(self) -> str:
        """PENDING (waits, or nobody knows the id), STARTED, RETRY, SUCCESS, FAILURE or REVOKED."""
        status = self._native.status
        if status is None:
            return states.PENDING
        state = states.STATE_OF[status]
        if state == states.PENDING and status is not JobStatus.SAVE_PENDING:
            info = self._info()
            return states.RETRY if info is not None and info.failures else state
        if state == states.FAILURE and _is_expired(self._native.error):
            return states.REVOKED
        return state

    @property
    def status(self) -> str:
        """As `state`."""
        return self.state

    def ready(self) -> bool:
        """Whether the task has ended."""
        return self._native.ready()

    def successful(self) -> bool:
        """Whether it has ended without an exception."""
        return self._native.successful()

    def failed(self) -> bool:
        """Whether it has ended with an exception."""
        return self.state == states.FAILURE

    @property
    def result(self) -> Any:
        """What the task returned, or the exception that it ended with, or is retried for. None until there is one."""
        error = self._native.error
        if error is not None:
            return rebuilt(error)
        if self._native.successful():
            try:
                # It has been asked for, so that this does not wait.
                return self._native.get(timeout=0)
            except ResultExpired:
                return None
        info = self._info()
        return None if info is None or info.error is None else exception_of(info.error.type, info.error.message)

    @property
    def info(self) -> Any:
        """As `result`."""
        return self.result

    @property
    def traceback(self) -> str | None:
        """The formatted traceback of the exception, or None."""
        error = self._native.error
        if isinstance(error, JobFailed):
            return error.traceback or None
        info = self._info()
        return None if info is None or info.error is None else info.error.traceback

    @property
    def date_done(self) -> datetime | None:
        """When the task ended (aware, UTC), or None."""
        info = self._info()
        return None if info is None else info.finished_at

    @property
    def name(self) -> str | None:
        """The task's name; None where nobody knows the id."""
        info = self._info()
        return None if info is None else info.task

    def revoke(self, *, terminate: bool = False) -> None:
        """Ask that the task does not start.

        Args:
            terminate: stop it, too, where it runs: it is told so, and ends when it can.
        """
        if terminate or self._native.status is not JobStatus.PROCESSING:
            self._native.cancel()

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return self.id == other.id
        return self.id == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def _info(self) -> JobInfo | None:
        return self.app.jobmaster.jobs.get(self.id)


def _is_expired(error: JobMasterError | None) -> bool:
    return isinstance(error, JobFailed) and error.error_type == EXPIRED


def _is_on_a_running_loop() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _check_others(others: dict[str, Any]) -> None:
    for name in others:
        if name not in {"interval", "no_ack", "follow_parents"}:
            raise ConfigurationError(
                f"AsyncResult.get() has no option {name!r} in JobMaster. There are timeout and propagate."
            )
        warnings.warn(f"AsyncResult.get: the option {name} has no effect.", NoEffectWarning, stacklevel=3)
