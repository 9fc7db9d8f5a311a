"""`jm.scheduler`: one-off and recurring jobs by task, handler or name, in the style of the .NET system."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Unpack

from jobmaster.options import CallOptions, plan_call

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.enqueuing import Data, What
    from jobmaster.model.states import CancelOutcome
    from jobmaster.recurring import RecurringOptions, When
    from jobmaster.result import Result
    from jobmaster.schedule_questions import Schedules
    from jobmaster.views import ScheduleInfo


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

    # -- recurring

    def recurring(
        self,
        what: What,
        when: When,
        data: Data = None,
        *,
        cluster: str | None = None,
        **options: Unpack[RecurringOptions],
    ) -> ScheduleInfo:
        """A job again and again, by a rule. It is in the master when this returns.

        With `name=` the call may be repeated, by every process that starts: the same name is the same schedule, and
        another rule, other data or options replace what it was.

        Args:
            what: as for the other methods.
            when: NaturalCron text (`"every day at 02:30"`), a timedelta, `Cron("30 2 * * *")`, any other expression, a
                pair (type id, text), or one or several aware datetimes.
            data: as for the other methods.
            cluster: the id of another cluster that this program has an app of.
            options: see `RecurringOptions`.

        Raises:
            ScheduleSyntaxError: the expression cannot be read; the text shows where, and what was probably meant.
            ConfigurationError: an option cannot be, a time zone is unknown, or the rule would never fire.
            TypeError: the task cannot take the data.
            NotRegistered, SerializationError, MessageTooLarge, StoreUnavailable, ClusterArchived: as `once_now`.
        """
        return self._schedules(cluster).add(what, when, data, **options)

    async def arecurring(
        self,
        what: What,
        when: When,
        data: Data = None,
        *,
        cluster: str | None = None,
        **options: Unpack[RecurringOptions],
    ) -> ScheduleInfo:
        """`recurring` for a running event loop."""
        return await self._schedules(cluster).aadd(what, when, data, **options)

    def cancel_recurring(self, schedule: str) -> bool:
        """End a schedule (id or name) for good: see `jm.schedules.cancel`."""
        return self._app.schedules.cancel(schedule)

    async def acancel_recurring(self, schedule: str) -> bool:
        """`cancel_recurring` for a running event loop."""
        return await self._app.schedules.acancel(schedule)

    def pause_recurring(self, schedule: str) -> ScheduleInfo:
        """Let a schedule (id or name) make no more runs until it is resumed: see `jm.schedules.pause`."""
        return self._app.schedules.pause(schedule)

    async def apause_recurring(self, schedule: str) -> ScheduleInfo:
        """`pause_recurring` for a running event loop."""
        return await self._app.schedules.apause(schedule)

    def resume_recurring(self, schedule: str) -> ScheduleInfo:
        """Let a schedule (id or name) go on from now: see `jm.schedules.resume`."""
        return self._app.schedules.resume(schedule)

    async def aresume_recurring(self, schedule: str) -> ScheduleInfo:
        """`resume_recurring` for a running event loop."""
        return await self._app.schedules.aresume(schedule)

    def edit_recurring(
        self,
        schedule: str,
        *,
        version: int | None = None,
        when: When | None = None,
        data: Data = None,
        **options: Unpack[RecurringOptions],
    ) -> ScheduleInfo:
        """Change what is given of a schedule (id or name): see `jm.schedules.edit`."""
        return self._app.schedules.edit(schedule, version=version, when=when, data=data, **options)

    async def aedit_recurring(
        self,
        schedule: str,
        *,
        version: int | None = None,
        when: When | None = None,
        data: Data = None,
        **options: Unpack[RecurringOptions],
    ) -> ScheduleInfo:
        """`edit_recurring` for a running event loop."""
        return await self._app.schedules.aedit(schedule, version=version, when=when, data=data, **options)

    def run_now(self, schedule: str, *, job_id: str | None = None) -> Result[Any]:
        """One run more of a schedule (id or name), due now: see `jm.schedules.run_now`."""
        return self._app.schedules.run_now(schedule, job_id=job_id)

    async def arun_now(self, schedule: str, *, job_id: str | None = None) -> Result[Any]:
        """`run_now` for a running event loop."""
        return await self._app.schedules.arun_now(schedule, job_id=job_id)

    def backfill(self, schedule: str, start: datetime, end: datetime, *, limit: int = 100) -> Sequence[Result[Any]]:
        """Make up for moments of a schedule (id or name) that have passed: see `jm.schedules.backfill`."""
        return self._app.schedules.backfill(schedule, start, end, limit=limit)

    async def abackfill(
        self, schedule: str, start: datetime, end: datetime, *, limit: int = 100
    ) -> Sequence[Result[Any]]:
        """`backfill` for a running event loop."""
        return await self._app.schedules.abackfill(schedule, start, end, limit=limit)

    def _schedules(self, cluster: str | None) -> Schedules:
        if cluster is None:
            return self._app.schedules
        from jobmaster.schedule_questions import Schedules

        return Schedules(self._app.cluster(cluster), tasks_of=self._app)
