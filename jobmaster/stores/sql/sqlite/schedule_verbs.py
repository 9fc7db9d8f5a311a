"""The verbs about recurring schedules (ports.schedules), one line each. Lists import SQLAlchemy when first asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.schedule import DueSchedules
from jobmaster.rules.schedule_lists import read_page
from jobmaster.rules.storable import check_jobs, check_key, check_schedule, check_text
from jobmaster.stores.sql.sqlite import occurrences, schedules, turns
from jobmaster.stores.sql.sqlite.handle import Handle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.schedule import Occurrence, OccurrenceRecord, Plan, Schedule, ScheduleKey
    from jobmaster.ports.schedules import ScheduleChange, SchedulePage, ScheduleQuery


class ScheduleVerbs(Handle):
    """ScheduleStore on SQLite."""

    async def add_schedule(self, schedule: Schedule) -> Schedule:
        check_schedule(schedule)
        return await self._write(lambda tx: schedules.add_schedule(tx, schedule))

    async def ensure_schedules(self, wanted: Sequence[Schedule]) -> list[Schedule]:
        for one in wanted:
            check_schedule(one)
        return await self._write(lambda tx: schedules.ensure_schedules(tx, wanted))

    async def keep_schedules(self, wanted: Sequence[Schedule], *, fresh_us: int = 0, lost_us: int) -> list[ScheduleKey]:
        stale, lacking = await self._read(lambda tx: schedules.stale_schedules(tx, wanted, fresh_us, lost_us))
        if stale:
            await self._write(lambda tx: schedules.keep_schedules(tx, stale, fresh_us))
        return lacking

    async def due_schedules(self, *, limit: int, claim_us: int, idle_us: int) -> DueSchedules:
        now_us, next_us = await self._read(occurrences.next_plan)
        if next_us is None or next_us > now_us:
            return DueSchedules([], now_us, next_us)
        return await self._write(lambda tx: occurrences.due_schedules(tx, limit, claim_us, idle_us))

    async def plan_schedules(self, plans: Sequence[Plan], *, as_of_us: int, max_age_us: int) -> list[bool]:
        now_us = self._now()
        for plan in plans:
            check_jobs((one.job for one in plan.occurrences), now_us)
        return await self._write(lambda tx: occurrences.plan_schedules(tx, plans, as_of_us, max_age_us))

    async def change_schedule(
        self, key: ScheduleKey, change: ScheduleChange, *, version: int | None, planned_us: int | None = None
    ) -> Schedule | None:
        check_key(key)
        return await self._write(lambda tx: schedules.change_schedule(tx, key, change, version, planned_us))

    async def add_occurrences(self, key: ScheduleKey, new: Sequence[Occurrence]) -> list[bool]:
        check_key(key)
        check_jobs((one.job for one in new), self._now())
        return await self._write(lambda tx: occurrences.add_occurrences(tx, key, new))

    async def release_occurrence(self, key: ScheduleKey, job: JobKey) -> bool:
        check_key(key)
        check_key(job)
        return await self._write(lambda tx: turns.release_occurrence(tx, key, job))

    async def expire_schedules(self, *, idle_us: int, limit: int) -> list[ScheduleKey]:
        return await self._write(lambda tx: schedules.expire_schedules(tx, idle_us, limit))

    async def purge_schedules(self, *, before_us: int, limit: int) -> int:
        return await self._write(lambda tx: schedules.purge_schedules(tx, before_us, limit))

    async def list_schedules(self, query: ScheduleQuery, *, limit: int = 50, after: str | None = None) -> SchedulePage:
        from jobmaster.stores.sql.sqlite import lists

        place = read_page(limit, after)
        return await self._ask(lambda tx: lists.list_schedules(tx, query, limit, place))

    async def get_schedule(self, key: ScheduleKey) -> Schedule | None:
        check_key(key)
        return await self._read(lambda tx: schedules.get_schedule(tx, key))

    async def find_schedule(self, name: str) -> Schedule | None:
        check_text(name, "schedule's name")
        return await self._read(lambda tx: schedules.find_schedule(tx, name))

    async def schedule_occurrences(
        self, key: ScheduleKey, *, limit: int, before_us: int | None = None, after_us: int | None = None
    ) -> list[OccurrenceRecord]:
        check_key(key)
        return await self._read(lambda tx: occurrences.schedule_occurrences(tx, key, limit, before_us, after_us))
