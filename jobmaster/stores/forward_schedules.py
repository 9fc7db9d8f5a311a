"""The verbs of a split store about recurring schedules: the master's alone, passed on as they are."""

from __future__ import annotations

from collections.abc import Sequence

from jobmaster.model.ids import JobKey
from jobmaster.model.schedule import DueSchedules, Occurrence, OccurrenceRecord, Plan, Schedule, ScheduleKey
from jobmaster.ports.schedules import ScheduleChange, SchedulePage, ScheduleQuery, ScheduleStore


class ScheduleForward:
    """Every verb of `ports.schedules`, passed on."""

    master: ScheduleStore

    async def add_schedule(self, schedule: Schedule) -> Schedule:
        return await self.master.add_schedule(schedule)

    async def ensure_schedules(self, schedules: Sequence[Schedule]) -> list[Schedule]:
        return await self.master.ensure_schedules(schedules)

    async def keep_schedules(
        self, schedules: Sequence[Schedule], *, fresh_us: int = 0, lost_us: int
    ) -> list[ScheduleKey]:
        return await self.master.keep_schedules(schedules, fresh_us=fresh_us, lost_us=lost_us)

    async def due_schedules(self, *, limit: int, claim_us: int, idle_us: int) -> DueSchedules:
        return await self.master.due_schedules(limit=limit, claim_us=claim_us, idle_us=idle_us)

    async def plan_schedules(self, plans: Sequence[Plan], *, as_of_us: int, max_age_us: int) -> list[bool]:
        return await self.master.plan_schedules(plans, as_of_us=as_of_us, max_age_us=max_age_us)

    async def change_schedule(
        self, key: ScheduleKey, change: ScheduleChange, *, version: int | None, planned_us: int | None = None
    ) -> Schedule | None:
        return await self.master.change_schedule(key, change, version=version, planned_us=planned_us)

    async def add_occurrences(self, key: ScheduleKey, occurrences: Sequence[Occurrence]) -> list[bool]:
        return await self.master.add_occurrences(key, occurrences)

    async def release_occurrence(self, key: ScheduleKey, job: JobKey) -> bool:
        return await self.master.release_occurrence(key, job)

    async def expire_schedules(self, *, idle_us: int, limit: int) -> list[ScheduleKey]:
        return await self.master.expire_schedules(idle_us=idle_us, limit=limit)

    async def purge_schedules(self, *, before_us: int, limit: int) -> int:
        return await self.master.purge_schedules(before_us=before_us, limit=limit)

    async def list_schedules(self, query: ScheduleQuery, *, limit: int = 50, after: str | None = None) -> SchedulePage:
        return await self.master.list_schedules(query, limit=limit, after=after)

    async def get_schedule(self, key: ScheduleKey) -> Schedule | None:
        return await self.master.get_schedule(key)

    async def find_schedule(self, name: str) -> Schedule | None:
        return await self.master.find_schedule(name)

    async def schedule_occurrences(
        self, key: ScheduleKey, *, limit: int, before_us: int | None = None, after_us: int | None = None
    ) -> list[OccurrenceRecord]:
        return await self.master.schedule_occurrences(key, limit=limit, before_us=before_us, after_us=after_us)
