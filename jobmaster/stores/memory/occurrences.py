"""Occurrences of schedules in memory: planned, run now, remembered, and given their turn (ports.schedules)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobmaster.model.reasons import OVERLAP, UNROUTABLE
from jobmaster.model.schedule import DueSchedules, OccurrenceRecord, ScheduleKey, ScheduleKind, Trigger, replanned_key
from jobmaster.model.states import JobStatus
from jobmaster.rules import overlap
from jobmaster.rules import schedule_changes as changes
from jobmaster.rules.overlap import Holder, Others, Turn, Waiting
from jobmaster.rules.storable import check_jobs, check_key
from jobmaster.stores.memory.claims import Claims
from jobmaster.stores.memory.schedules import OWNED, Schedules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.schedule import Occurrence, Plan, Schedule
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
        if changes.begins_anew(plan, now):
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
            return self._make_instead(there, occurrence, now)
        there[occurrence.at_us] = OccurrenceRecord(occurrence.at_us, occurrence.job.key, occurrence.trigger)
        self.schedules.recorded[key, occurrence.at_us] = now
        self._insert_held(occurrence.job, "", now)
        return True

    def _make_instead(self, there: dict[int, OccurrenceRecord], occurrence: Occurrence, now: int) -> bool:
        """A job takes the place of one that never began, where it may."""
        record = there[occurrence.at_us]
        row = self.jobs.get(record.key)
        reason = changes.replaces(occurrence)
        if row is None or row.status is not JobStatus.CANCELLED or row.reason != reason:
            return False
        again = replanned_key(record.key)
        there[occurrence.at_us] = replace(record, key=again, trigger=occurrence.trigger)
        self._insert_held(replace(occurrence.job, key=again), "", now)
        return True

    async def add_occurrences(self, key: ScheduleKey, occurrences: Sequence[Occurrence]) -> list[bool]:
        now = self._begin()
        check_key(key)
        check_jobs((occurrence.job for occurrence in occurrences), now)
        await self._pause()
        now = self._begin()
        if self.schedules.get(key) is None:
            return [False] * len(occurrences)
        there = [job for job in changes.run_keys(occurrences) if self.jobs.get(job) is not None]
        wanted = zip(occurrences, changes.unmade(occurrences, there), strict=True)
        return [new and self._insert_occurrence(key, occurrence, now) for occurrence, new in wanted]

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
        """Whether an occurrence that would start now may not, because another one has the turn; else it is its turn."""
        key, envelope = ScheduleKey(row.envelope.schedule or b""), row.envelope
        schedule = self.schedules.get(key)
        if schedule is None or schedule.current_job == row.key:
            return False
        current = None if schedule.current_job is None else self.jobs.get(schedule.current_job)
        holder = None if current is None else self._holder(current)
        others, limit = self._others(key, row, now), schedule.rule.misfire_limit
        told, cancels = overlap.turn(envelope, holder, others, limit=limit)
        if cancels and current is not None:
            self._cancel_row(current, now)
        if told is Turn.TAKEN:
            self.schedules.waiting.get(key, set()).discard(envelope.scheduled_us)
            self.schedules.put(replace(schedule, current_job=row.key))
        elif told is Turn.SKIPPED:
            self._skip(row, now)
        else:
            self._hold_back(schedule, row, now)
        return told is not Turn.TAKEN

    def _holder(self, row: JobRow) -> Holder | None:
        if row.status.is_final:
            return None
        is_held = row.status is JobStatus.HELD_ON_MASTER
        requeued = not row.suspect and row.started_us is None
        if not overlap.bars(is_held=is_held, is_unroutable=row.reason == UNROUTABLE, was_requeued=requeued):
            return None
        return Holder(row.envelope.scheduled_us, is_held, row.envelope.trigger == Trigger.BACKFILL)

    def _others(self, key: ScheduleKey, asking: JobRow, now: int) -> Others:
        envelope = asking.envelope
        waiting = [one for one in self._waiting(key, now) if one.job != asking.key]
        place = envelope.lane, envelope.priority
        return Others(
            before=any(one.at_us < envelope.scheduled_us and (one.lane, one.priority) == place for one in waiting),
            after=any(one.at_us > envelope.scheduled_us and one.trigger != Trigger.BACKFILL for one in waiting),
            is_marked=envelope.scheduled_us in self.schedules.waiting.get(key, ()),
            planned=sum(one.trigger == Trigger.SCHEDULE for one in waiting),
        )

    def _waiting(self, key: ScheduleKey, now: int) -> list[Waiting]:
        """Those of a schedule that wait for their turn, in the order of their moments."""
        there = self.schedules.occurrences.get(key, {})
        records = (there[at] for at in sorted(self.schedules.waiting.get(key, ())) if at in there)
        rows = ((record, self.jobs.get(record.key)) for record in records)
        return [
            Waiting(record.at_us, record.trigger, record.key, row.envelope.lane, row.envelope.priority)
            for record, row in rows
            if row is not None and self._waits(row, now)
        ]

    def _waits(self, row: JobRow, now: int) -> bool:
        """One that was held back still waits, on the master or already in the memory of an owner."""
        if row.envelope.expires_us is not None and row.envelope.expires_us <= now:
            return False
        if row.status is JobStatus.HELD_ON_MASTER:
            return row.reason != UNROUTABLE and row.due_us <= now + overlap.WAIT_US
        return row.status is JobStatus.QUEUED and row.suspect

    def _hold_back(self, schedule: Schedule, row: JobRow, now: int) -> None:
        self.schedules.waiting.setdefault(schedule.key, set()).add(row.envelope.scheduled_us)
        expires_us, payload = overlap.patient(row.envelope, row.payload, schedule.template)
        envelope = replace(row.envelope, expires_us=expires_us)
        self.jobs.change(row, suspect=True, envelope=envelope, payload=payload)
        self._hold(row, now, due_us=now + overlap.WAIT_US, reason=OVERLAP)

    def _skip(self, row: JobRow, now: int) -> None:
        self.jobs.change(
            row, status=JobStatus.CANCELLED, bucket=None, gen=row.gen + 1, touched_us=now, finished_us=now,
            reason=OVERLAP,
        )  # fmt: skip
        self._tell(row)

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
        return self._release_next(schedule, now)

    def _release_next(self, schedule: Schedule, now: int) -> bool:
        waiting = self._waiting(schedule.key, now)
        self.schedules.waiting[schedule.key] = {one.at_us for one in waiting}
        due, skipped = overlap.let_go(schedule.rule.overlap, waiting)
        for row in self._rows_of(skipped):
            self._skip(row, now)
        for row in self._rows_of(due):
            self._hold(row, now, due_us=now)
        return bool(due)

    def _rows_of(self, waiting: Sequence[Waiting]) -> list[JobRow]:
        return [row for row in (self.jobs.get(one.job) for one in waiting) if row is not None]
