"""Occurrences of schedules in memory: planned, run now, remembered, and given their turn (ports.schedules)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobmaster.model.reasons import OVERLAP, SCHEDULE_CHANGED, UNROUTABLE
from jobmaster.model.schedule import (
    DueSchedules,
    OccurrenceRecord,
    Overlap,
    ScheduleKey,
    ScheduleKind,
    Trigger,
    replanned_key,
)
from jobmaster.model.states import JobStatus
from jobmaster.rules import schedule_changes as changes
from jobmaster.rules.overlap import WAIT_US
from jobmaster.rules.storable import check_jobs, check_key
from jobmaster.stores.memory.claims import Claims
from jobmaster.stores.memory.schedules import OWNED, Schedules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.schedule import Occurrence, Plan
    from jobmaster.stores.memory.rows import JobRow


class Occurrences(Schedules, Claims):
    """The verbs about occurrences, and what a guarded start asks about them."""

    async def due_schedules(self, *, limit: int, claim_us: int, idle_us: int) -> DueSchedules:
        now = self._begin()
        due = self.schedules.due(now, limit)
        found = []
        for one in due:
            idle = one.kind is ScheduleKind.STATIC and one.ensured_us < now - idle_us
            claimed = replace(one, plan_at_us=changes.ASLEEP_US if idle else now + claim_us)
            self.schedules.put(claimed)
            if not idle:
                found.append(claimed)
        next_us = self.schedules.next_plan_us()
        return DueSchedules(found, now, None if next_us == changes.ASLEEP_US else next_us)

    async def plan_schedules(self, plans: Sequence[Plan], *, as_of_us: int, max_age_us: int) -> list[bool]:
        now = self._begin()
        for plan in plans:
            check_jobs((occurrence.job for occurrence in plan.occurrences), now)
        await self._pause()
        now = self._begin()
        if changes.is_late(now, as_of_us, max_age_us):
            return [False] * len(plans)
        return [self._plan(plan, now) for plan in plans]

    def _plan(self, plan: Plan, now: int) -> bool:
        stored = self.schedules.get(plan.key)
        if stored is None or not changes.fits(stored, plan):
            return False
        if changes.begins_anew(plan):
            self._drop_unplanned(plan, now)
        for occurrence in plan.occurrences:
            self._insert_occurrence(plan.key, occurrence, now)
        self.schedules.put(changes.planned(stored, plan, now))
        return True

    def _drop_unplanned(self, plan: Plan, now: int) -> None:
        moments = {occurrence.at_us for occurrence in plan.occurrences}
        for record in self.schedules.occurrences.get(plan.key, {}).values():
            if record.at_us > now and record.trigger is Trigger.SCHEDULE and record.at_us not in moments:
                row = self.jobs.get(record.key)
                if row is not None and row.status in OWNED:
                    self._take_back(row, now)

    def _insert_occurrence(self, key: ScheduleKey, occurrence: Occurrence, now: int) -> bool:
        there = self.schedules.occurrences.setdefault(key, {})
        if occurrence.at_us in there:
            self._plan_instead(there, occurrence, now)
            return False
        there[occurrence.at_us] = OccurrenceRecord(occurrence.at_us, occurrence.job.key, occurrence.trigger)
        self._insert_held(occurrence.job, "", now)
        return True

    def _plan_instead(self, there: dict[int, OccurrenceRecord], occurrence: Occurrence, now: int) -> None:
        """A job takes the place of one that was cancelled because the schedule had changed."""
        record = there[occurrence.at_us]
        row = self.jobs.get(record.key)
        dropped = row is not None and row.status is JobStatus.CANCELLED and row.reason == SCHEDULE_CHANGED
        if dropped and occurrence.trigger is Trigger.SCHEDULE and occurrence.at_us > now:
            again = replanned_key(record.key)
            there[occurrence.at_us] = replace(record, key=again)
            self._insert_held(replace(occurrence.job, key=again), "", now)

    async def add_occurrences(self, key: ScheduleKey, occurrences: Sequence[Occurrence]) -> list[bool]:
        now = self._begin()
        check_key(key)
        check_jobs((occurrence.job for occurrence in occurrences), now)
        await self._pause()
        now = self._begin()
        if self.schedules.get(key) is None:
            return [False] * len(occurrences)
        return [self._insert_occurrence(key, occurrence, now) for occurrence in occurrences]

    async def schedule_occurrences(
        self, key: ScheduleKey, *, limit: int, before_us: int | None = None, after_us: int | None = None
    ) -> list[OccurrenceRecord]:
        self._begin()
        check_key(key)
        there = self.schedules.occurrences.get(key, {})
        if after_us is not None:
            return [there[at] for at in sorted(at for at in there if at > after_us)[:limit]]
        moments = (at for at in there if before_us is None or at < before_us)
        return [there[at] for at in sorted(moments, reverse=True)[:limit]]

    # -- one after the other

    def _is_held_back(self, row: JobRow, now: int) -> bool:
        """Whether an occurrence that would start now may not, because an earlier one has not ended; else its turn."""
        key = ScheduleKey(row.envelope.schedule or b"")
        schedule = self.schedules.get(key)
        if schedule is None:
            return False
        is_ones_turn = schedule.current_job in (None, row.key) or self._has_made_way(schedule.current_job, row, now)
        if not is_ones_turn or self._is_passed_over(key, row):
            self._hold_back(key, row, now)
            return True
        self.schedules.waiting.get(key, set()).discard(row.envelope.scheduled_us)
        self.schedules.put(replace(schedule, current_job=row.key))
        return False

    def _has_made_way(self, current: JobKey | None, row: JobRow, now: int) -> bool:
        earlier = None if current is None else self.jobs.get(current)
        if earlier is None or earlier.status.is_final:
            return True
        if row.envelope.overlap != Overlap.CANCEL_PREVIOUS:
            return False
        waited = earlier.status is JobStatus.HELD_ON_MASTER
        self._cancel_row(earlier, now)
        return waited

    def _is_passed_over(self, key: ScheduleKey, row: JobRow) -> bool:
        """Whether an earlier one waits, whose turn comes before this one's."""
        if row.envelope.overlap != Overlap.QUEUE:
            return False
        at, there = row.envelope.scheduled_us, self.schedules.occurrences.get(key, {})
        before = (there[one] for one in self.schedules.waiting.get(key, ()) if one < at and one in there)
        return any(self._waits(self.jobs.get(record.key)) for record in before)

    def _hold_back(self, key: ScheduleKey, row: JobRow, now: int) -> None:
        if row.envelope.overlap == Overlap.SKIP:
            self.jobs.change(
                row, status=JobStatus.CANCELLED, bucket=None, gen=row.gen + 1, touched_us=now, finished_us=now,
                reason=OVERLAP,
            )  # fmt: skip
            self._tell(row)
            return
        self.schedules.waiting.setdefault(key, set()).add(row.envelope.scheduled_us)
        self.jobs.change(row, suspect=True)
        self._hold(row, now, due_us=now + WAIT_US, reason=OVERLAP)

    async def release_occurrence(self, key: ScheduleKey, job: JobKey) -> bool:
        self._begin()
        check_key(key)
        check_key(job)
        await self._pause()
        now = self._begin()
        schedule = self.schedules.get(key)
        if schedule is None or schedule.current_job != job:
            return False
        ended = self.jobs.get(job)
        if ended is not None and not ended.status.is_final:
            return False
        self.schedules.put(replace(schedule, current_job=None))
        return self._release_next(key, now)

    def _release_next(self, key: ScheduleKey, now: int) -> bool:
        there = self.schedules.occurrences.get(key, {})
        waiting = self.schedules.waiting.get(key, set())
        for at in sorted(waiting):
            row = self.jobs.get(there[at].key) if at in there else None
            if row is not None and self._waits(row):
                self._hold(row, now, due_us=now)
                return True
            waiting.discard(at)
        return False

    def _waits(self, row: JobRow | None) -> bool:
        """One that was held back still waits, on the master or already in the memory of an owner."""
        if row is None:
            return False
        if row.status is JobStatus.HELD_ON_MASTER:
            return row.reason != UNROUTABLE
        return row.status is JobStatus.QUEUED and row.suspect
