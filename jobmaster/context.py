"""What a running job knows about itself: `JobContext`, and `current_job()` to get it anywhere below a task."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jobmaster.errors import ConfigurationError, JobCancelled
from jobmaster.model.ids import JobKey, key_text
from jobmaster.model.job import Envelope
from jobmaster.model.run import Run
from jobmaster.model.states import Priority
from jobmaster.options import as_moment

if TYPE_CHECKING:
    from jobmaster.model.message_data import JobMetadata, MessageData
    from jobmaster.registry import TaskDefinition

_log = logging.getLogger("jobmaster.job")

_current: ContextVar[JobContext | None] = ContextVar("jobmaster_current_job", default=None)


class JobContext:
    """One execution of a job, as the task sees it.

    Attributes:
        args: positional arguments.
        kwargs: arguments by name; of a job with message data its values.
        checkpoint_data: what an earlier attempt left with `checkpoint`, or None.
    """

    def __init__(
        self,
        run: Run,
        *,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        checkpoint_data: Any = None,
        msg_data: MessageData | None = None,
        encode: Callable[[Any], bytes] | None = None,
    ) -> None:
        self._run = run
        self.args = args
        self.kwargs = kwargs
        self.checkpoint_data = checkpoint_data
        self._msg_data = msg_data
        self._encode = encode
        self._checkpoint: bytes | None = None

    # What is not asked for in most runs is made when it is asked for.

    @cached_property
    def id(self) -> str:
        """The job's id; empty in a plain call of a bound task."""
        return self._run.envelope.custom_id or (key_text(self._run.key) if self._run.key else "")

    @property
    def task(self) -> str:
        """The task's name."""
        return self._run.envelope.task

    @property
    def attempt(self) -> int:
        """Number of this execution, from 1."""
        return self._run.attempt

    @property
    def failures(self) -> int:
        """How many attempts before this one failed or asked for another; interrupted ones don't count."""
        return self._run.failures

    @property
    def max_retries(self) -> int:
        """How many further attempts a failure may have."""
        return self._run.max_retries

    @property
    def lane(self) -> str:
        """The job's lane."""
        return self._run.envelope.lane or "default"

    @property
    def priority(self) -> Priority:
        """The job's priority."""
        return Priority(self._run.envelope.priority)

    @property
    def scheduled_at(self) -> datetime:
        """When the job was due (aware, UTC)."""
        return as_moment(self._run.scheduled_us)

    @property
    def deadline(self) -> datetime | None:
        """When its hard time limit ends it (aware, UTC), or None."""
        return None if self._run.deadline_us is None else as_moment(self._run.deadline_us)

    @property
    def worker(self) -> str:
        """Name of the worker that runs it."""
        return self._run.worker

    @property
    def schedule(self) -> str | None:
        """The id of the schedule whose occurrence this is; None: it is none."""
        key = self._run.envelope.schedule
        return None if key is None else key_text(JobKey(key))

    @property
    def trigger(self) -> str:
        """What made the job: "call", "schedule", "run now" or "backfill"."""
        from jobmaster.presenting import trigger_word

        return trigger_word(self._run.envelope.trigger)

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

        return JobMetadata(dict(self._run.envelope.metadata))

    @property
    def cancelled(self) -> bool:
        """Whether this run was told to stop (cancelled, over its limit, or the worker stops)."""
        return self._run.halting

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


def enter_job(context: JobContext) -> Token[JobContext | None]:
    """Make it the current job, until `leave_job`."""
    return _current.set(context)


def leave_job(token: Token[JobContext | None]) -> None:
    """End what `enter_job` began, in the same context."""
    _current.reset(token)


def detached_context(definition: TaskDefinition, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> JobContext:
    """The context of a plain call: no job, no worker, the first attempt."""
    target, now_us = definition.target, time.time_ns() // 1000
    envelope = Envelope(
        task=definition.name,
        call=b"",
        created_us=now_us,
        scheduled_us=now_us,
        lane=target.lane,
        priority=target.priority,
        metadata=dict(target.metadata),
    )
    run = Run(JobKey(b""), envelope, b"", 1, 0, definition.limits.max_retries, now_us, None, None, None, "")
    return JobContext(run, args=args, kwargs=dict(kwargs))
