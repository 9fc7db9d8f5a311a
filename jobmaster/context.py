"""What a running job knows about itself: `JobContext`, and `current_job()` to get it anywhere below a task."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jobmaster.errors import ConfigurationError, JobCancelled
from jobmaster.model.states import Priority

if TYPE_CHECKING:
    from jobmaster.model.message_data import JobMetadata, MessageData
    from jobmaster.registry import TaskDefinition

_log = logging.getLogger("jobmaster.job")

_current: ContextVar[JobContext | None] = ContextVar("jobmaster_current_job", default=None)


class JobContext:
    """One execution of a job, as the task sees it.

    Attributes:
        id: the job's id; empty in a plain call of a bound task.
        task: the task's name.
        args: positional arguments.
        kwargs: arguments by name; of a job with message data its values.
        attempt: number of this execution, from 1.
        failures: how many of the attempts before this one failed or asked for another; interrupted ones don't count.
        max_retries: how many further attempts a failure may have.
        lane: the job's lane.
        priority: the job's priority.
        scheduled_at: when the job was due (aware, UTC).
        deadline: when its hard time limit ends it (aware, UTC), or None.
        worker: name of the worker that runs it.
        checkpoint_data: what an earlier attempt left with `checkpoint`, or None.
    """

    def __init__(
        self,
        *,
        id: str,
        task: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        attempt: int = 1,
        failures: int = 0,
        max_retries: int = 0,
        lane: str = "default",
        priority: Priority = Priority.MEDIUM,
        metadata: Mapping[str, object] | None = None,
        scheduled_at: datetime,
        deadline: datetime | None = None,
        worker: str = "",
        checkpoint_data: Any = None,
        cancelled: Callable[[], bool] | None = None,
        msg_data: MessageData | None = None,
        encode: Callable[[Any], bytes] | None = None,
    ) -> None:
        self.id = id
        self.task = task
        self.args = args
        self.kwargs = dict(kwargs)
        self.attempt = attempt
        self.failures = failures
        self.max_retries = max_retries
        self.lane = lane
        self.priority = priority
        self._metadata = dict(metadata or {})
        self.scheduled_at = scheduled_at
        self.deadline = deadline
        self.worker = worker
        self.checkpoint_data = checkpoint_data
        self._cancelled = cancelled
        self._msg_data = msg_data
        self._encode = encode
        self._checkpoint: bytes | None = None

    @cached_property
    def msg_data(self) -> MessageData:
        """The job's data with typed getters: what a handler was sent, or a task's arguments by name."""
        if self._msg_data is not None:
            return self._msg_data
        from jobmaster.model.message_data import MessageData

        return MessageData(self.kwargs)

    @cached_property
    def metadata(self) -> JobMetadata:
        """The plain data kept beside the job: a mapping with typed getters."""
        from jobmaster.model.message_data import JobMetadata

        return JobMetadata(self._metadata)

    @property
    def cancelled(self) -> bool:
        """Whether this run was told to stop (cancelled, over its limit, or the worker stops)."""
        return self._cancelled is not None and self._cancelled()

    def check_cancelled(self) -> None:
        """A place where a long run may end: raises `JobCancelled` when it was told to stop."""
        if self.cancelled:
            raise JobCancelled(f"Job {self.id} was told to stop.")

    def log(self, message: str, /, *, level: int = logging.INFO, **fields: object) -> None:
        """Write a log line that carries the job's id, task and attempt.

        Args:
            message: what happened.
            level: a level of `logging`.
            fields: plain values that belong to it.
        """
        _log.log(level, message, extra={"event": "job.log", **self._names(), "fields": fields})

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Tell how far the job is: a log line "job.progress" with these fields.

        Args:
            done: how much is done, in any unit.
            total: how much there is, if known.
            note: what is being done.
        """
        share = f"{done:g} of {total:g}" if total is not None else f"{done:g}"
        fields = {"done": done, "total": total, "note": note}
        _log.info(
            "progress: %s%s",
            share,
            f" ({note})" if note else "",
            extra={"event": "job.progress", **self._names(), "fields": fields},
        )

    def checkpoint(self, data: Any) -> None:
        """Leave data for the next attempt, which finds it in `checkpoint_data`.

        It is stored with this attempt's outcome, so a worker that is killed takes it along. The last one counts.

        Raises:
            SerializationError: the data cannot travel.
        """
        if self._encode is not None:
            self._checkpoint = self._encode(data)
        self.checkpoint_data = data

    @property
    def stored_checkpoint(self) -> bytes | None:
        """What `checkpoint` left in this attempt, as it will be stored."""
        return self._checkpoint

    @property
    def is_detached(self) -> bool:
        """True in a plain call of a bound task: no job stands behind it."""
        return not self.id

    def __repr__(self) -> str:
        return f"<JobContext {self.task} {self.id or 'detached'} attempt {self.attempt}>"

    def _names(self) -> dict[str, object]:
        return {"job_id": self.id, "task": self.task, "attempt": self.attempt}


def current_job() -> JobContext:
    """The context of the job that runs here, at any depth below its task.

    Raises:
        ConfigurationError: no job runs here.
    """
    context = _current.get()
    if context is None:
        raise ConfigurationError(
            "current_job() was called outside of a job. Call it inside a task that a worker runs; a thread that the "
            "task starts itself needs contextvars.copy_context()."
        )
    return context


def running_job() -> JobContext | None:
    """The context of the job that runs here, or None."""
    return _current.get()


def enter_job(context: JobContext) -> Callable[[], None]:
    """Make it the current job; the function that is returned ends that."""
    token = _current.set(context)
    return lambda: _current.reset(token)


def detached_context(definition: TaskDefinition, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> JobContext:
    """The context of a plain call: no job, no worker, the first attempt."""
    target = definition.target
    return JobContext(
        id="",
        task=definition.name,
        args=args,
        kwargs=kwargs,
        max_retries=definition.limits.max_retries,
        lane=target.lane or "default",
        priority=Priority(target.priority),
        metadata=target.metadata,
        scheduled_at=datetime.now(UTC),
    )
