"""What a producer holds of its job: the id, and questions about how it goes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from jobmaster.errors import (
    ConfigurationError,
    JobCancelled,
    JobFailed,
    JobMasterError,
    ResultExpired,
    ResultTimeout,
    TimeLimitExceeded,
    WorkerLostError,
)
from jobmaster.model.durations import as_timedelta
from jobmaster.model.ids import key_text
from jobmaster.model.reasons import RESULT_EXPIRED, TIMED_OUT, WORKER_LOST
from jobmaster.model.states import CancelOutcome, JobStatus

if TYPE_CHECKING:
    from jobmaster.client import Client
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import JobState

R_co = TypeVar("R_co", covariant=True)


class Result(Generic[R_co]):
    """One job, as its producer sees it. Equal to another Result of the same job.

    What asks a server raises `StoreUnavailable` where it does not answer, and has a twin for event loops, `a...`.
    """

    __slots__ = ("_accepted", "_client", "_final", "_id", "_key", "_returns")

    def __init__(
        self, client: Client, key: JobKey, id: str | None, *, returns: object = None, accepted: bool = True
    ) -> None:
        self._client = client
        self._key = key
        self._id = id
        self._returns = returns
        self._accepted = accepted
        self._final: JobState | None = None

    @property
    def id(self) -> str:
        """The job's id: the one that the caller chose, else a UUID."""
        return self._id or key_text(self._key)

    @property
    def status(self) -> JobStatus | None:
        """Where the job is; None: nobody knows the id. SavePending: accepted, and the master knows no more yet."""
        return self._status_of(self._client.ask(lambda gate: gate.look_up(self._key)))

    async def astatus(self) -> JobStatus | None:
        """`status` for a running event loop."""
        return self._status_of(await self._client.aask(lambda gate: gate.look_up(self._key)))

    def get(self, timeout: float | timedelta | None = None) -> R_co:
        """Wait for the job's end and return what the task returned.

        Args:
            timeout: how long to wait (seconds or timedelta); None waits for as long as it takes.

        Raises:
            ResultTimeout: it has not ended in time. The job goes on.
            JobFailed: it failed; has the type, text and traceback of its error.
            JobCancelled: it was cancelled.
            ResultExpired: it succeeded, and its result was kept for `keep_result` only.
            ConfigurationError: called on a running event loop, or inside a job.
        """
        if self._final is None:
            self._client.refuse_to_block(".get()", instead="await result.aget()")
            self._keep(self._client.ask(lambda gate: gate.wait_for(self._key, _seconds(timeout)), may_take_long=True))
        return self._value(timeout)

    async def aget(self, timeout: float | timedelta | None = None) -> R_co:
        """`get` for a running event loop: same arguments, result and errors."""
        if self._final is None:
            self._keep(await self._client.aask(lambda gate: gate.wait_for(self._key, _seconds(timeout))))
        return self._value(timeout)

    def ready(self) -> bool:
        """Whether the job has ended, however that was."""
        status = self.status
        return status is not None and status.is_final

    async def aready(self) -> bool:
        """`ready` for a running event loop."""
        status = await self.astatus()
        return status is not None and status.is_final

    def successful(self) -> bool:
        """Whether the job has ended as Succeeded."""
        return self.status is JobStatus.SUCCEEDED

    async def asuccessful(self) -> bool:
        """`successful` for a running event loop."""
        return await self.astatus() is JobStatus.SUCCEEDED

    @property
    def error(self) -> JobMasterError | None:
        """Why the job did not succeed, as the exception that `get` raises; None while it has not failed."""
        return self._error_of(self._client.ask(lambda gate: gate.look_up(self._key)))

    async def aerror(self) -> JobMasterError | None:
        """`error` for a running event loop."""
        return self._error_of(await self._client.aask(lambda gate: gate.look_up(self._key)))

    @property
    def attempts(self) -> int:
        """How many attempts the master has noted so far."""
        state = self._client.ask(lambda gate: gate.look_up(self._key))
        return 0 if state is None else state.attempts

    async def aattempts(self) -> int:
        """`attempts` for a running event loop."""
        state = await self._client.aask(lambda gate: gate.look_up(self._key))
        return 0 if state is None else state.attempts

    def cancel(self) -> CancelOutcome:
        """Ask that the job does not run, or ends.

        Returns:
            CANCELLED: certain, it will not start. REQUESTED: noted; its owner's answer decides, `get` tells.
            TOO_LATE: it had ended.

        Raises:
            ClusterArchived: the cluster can be read only.
        """
        self._client.require_writable()
        return self._client.ask(lambda gate: gate.cancel(self._key))

    async def acancel(self) -> CancelOutcome:
        """`cancel` for a running event loop."""
        self._client.require_writable()
        return await self._client.aask(lambda gate: gate.cancel(self._key))

    def __repr__(self) -> str:
        return f"<Result {self.id}>"

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Result) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    def _keep(self, state: JobState | None) -> None:
        if state is not None and state.status.is_final:
            self._final = state

    def _status_of(self, state: JobState | None) -> JobStatus | None:
        self._keep(state)
        if state is not None:
            return state.status
        return JobStatus.SAVE_PENDING if self._accepted else None

    def _error_of(self, state: JobState | None) -> JobMasterError | None:
        self._keep(state)
        return None if state is None else error_of(state, self.id)

    def _value(self, timeout: float | timedelta | None) -> R_co:
        state = self._final
        if state is None:
            goes_on = "It goes on" if self._accepted else "It goes on, unless nobody knows it: then its status is None"
            raise ResultTimeout(
                f"Job {self.id} has not ended within {_seconds(timeout):g} s. {goes_on}; ask again, or cancel() it. "
                f"`jobmaster jobs show {self.id}` tells what it waits for."
            )
        error = error_of(state, self.id)
        if error is not None:
            raise error
        if state.result is None:
            if state.reason == RESULT_EXPIRED:
                raise ResultExpired(
                    f"Job {self.id} succeeded, but its result was kept for keep_result only, which has passed. "
                    "Raise keep_result of the task (or of the cluster) to read results later."
                )
            return cast("R_co", None)
        value: Any = self._client.codec.decode_value(state.result, self._returns, what="result")
        return cast("R_co", value)


def error_of(state: JobState, job_id: str) -> JobMasterError | None:
    """The exception that says how a job ended; None where it succeeded or has not ended."""
    if state.status is JobStatus.CANCELLED:
        return JobCancelled(f"Job {job_id} was cancelled.")
    if state.status is not JobStatus.FAILED:
        return None
    kinds = {WORKER_LOST: WorkerLostError, TIMED_OUT: TimeLimitExceeded}
    failed = kinds.get(state.reason, JobFailed)
    if state.error is None:
        return failed(state.reason or "failed")
    return failed(state.error.type, state.error.message, state.error.traceback)


def _seconds(timeout: float | timedelta | None) -> float | None:
    if timeout is None:
        return None
    seconds = as_timedelta(timeout, "timeout").total_seconds()
    if seconds < 0:
        raise ConfigurationError(f"timeout is {seconds:g} s; a wait is 0 s or longer.")
    return seconds
