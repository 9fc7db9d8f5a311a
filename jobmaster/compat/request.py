"""`task.request`: what a running task knows about itself, in Celery's words."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from jobmaster.context import JobContext

_PRIORITY_OF = {1: 0, 2: 3, 3: 5, 4: 7, 5: 9}


@dataclass(slots=True)
class Context:
    """One run of a task. `called_directly` is True where no worker runs it: `add(2, 3)`, and outside of any task.

    Attributes:
        id: the task's id.
        args: positional arguments.
        kwargs: arguments by name.
        retries: how often it was retried before this run.
        called_directly: no worker runs it.
        hostname: name of the worker.
        delivery_info: `routing_key` has the queue, `priority` the priority (0 to 9).
        timelimit: hard and soft limit are the task's own: see `Task.time_limit`.
        is_eager: always False; there is no eager mode yet.
    """

    id: str | None = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    retries: int = 0
    called_directly: bool = True
    hostname: str | None = None
    delivery_info: dict[str, Any] = field(default_factory=dict)
    is_eager: bool = False

    def get(self, key: str, default: Any = None) -> Any:
        """The attribute `key`, or `default` where there is none."""
        return getattr(self, key, default)


def context_of(job: JobContext) -> Context:
    """The request of a job that a worker runs."""
    return Context(
        id=job.id,
        args=job.args,
        kwargs=job.kwargs,
        retries=job.failures,
        called_directly=False,
        hostname=job.worker,
        delivery_info={"routing_key": job.lane, "priority": _PRIORITY_OF[int(job.priority)]},
    )


running: ContextVar[tuple[str, Context] | None] = ContextVar("jobmaster_compat_request", default=None)
"""The task that runs here, by name, with its request."""
