"""`jm.scheduler`: one-off jobs by task, handler or name, in the style of the .NET system."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Unpack

from jobmaster.options import CallOptions, plan_call

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.enqueuing import Data, What
    from jobmaster.model.states import CancelOutcome
    from jobmaster.result import Result


class Scheduler:
    """Plans jobs for now, for a moment, or for later. Each method has an async twin with the prefix `a`.

    `what` is a task, a handler's class, or the name of either; `data` are a task's arguments by name, or what a handler
    finds in `job.msg_data`; `options` are those of a call (`CallOptions`).
    """

    def __init__(self, app: JobMaster) -> None:
        self._app = app

    def once_now(self, what: What, data: Data = None, **options: Unpack[CallOptions]) -> Result[Any]:
        """Enqueue a job that may start at once.

        Raises:
            NotRegistered: neither this process nor the master knows the name.
            SerializationError, MessageTooLarge: the data cannot travel. Nothing was stored.
            StoreUnavailable, OutcomeUnknown, ClusterArchived: as for `task.delay`.
        """
        return self._app.enqueuer.named(what, data, plan_call(options))

    async def aonce_now(self, what: What, data: Data = None, **options: Unpack[CallOptions]) -> Result[Any]:
        """`once_now` for a running event loop."""
        return await self._app.enqueuer.anamed(what, data, plan_call(options))

    def once_at(self, what: What, when: datetime, data: Data = None, **options: Unpack[CallOptions]) -> Result[Any]:
        """Enqueue a job that starts at `when` (an aware datetime). Raises as `once_now`."""
        return self._app.enqueuer.named(what, data, plan_call({**options, "at": when}))

    async def aonce_at(
        self, what: What, when: datetime, data: Data = None, **options: Unpack[CallOptions]
    ) -> Result[Any]:
        """`once_at` for a running event loop."""
        return await self._app.enqueuer.anamed(what, data, plan_call({**options, "at": when}))

    def once_after(
        self, what: What, wait: float | timedelta, data: Data = None, **options: Unpack[CallOptions]
    ) -> Result[Any]:
        """Enqueue a job that starts after `wait` (seconds or timedelta). Raises as `once_now`."""
        return self._app.enqueuer.named(what, data, plan_call({**options, "delay": wait}))

    async def aonce_after(
        self, what: What, wait: float | timedelta, data: Data = None, **options: Unpack[CallOptions]
    ) -> Result[Any]:
        """`once_after` for a running event loop."""
        return await self._app.enqueuer.anamed(what, data, plan_call({**options, "delay": wait}))

    def cancel(self, job_id: str) -> CancelOutcome:
        """Cancel a job: see `Result.cancel`."""
        return self._app.jobs.cancel(job_id)

    async def acancel(self, job_id: str) -> CancelOutcome:
        """`cancel` for a running event loop."""
        return await self._app.jobs.acancel(job_id)

    def reschedule(self, job_id: str, when: datetime) -> bool:
        """Give a waiting job another moment (an aware datetime). False: it is too late for that."""
        return self._app.jobs.reschedule(job_id, when)

    async def areschedule(self, job_id: str, when: datetime) -> bool:
        """`reschedule` for a running event loop."""
        return await self._app.jobs.areschedule(job_id, when)
