"""Recurring schedules in memory: made, changed, asked for (ports.schedules)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobmaster.model.reasons import SCHEDULE_CHANGED
from jobmaster.model.schedule import Schedule, ScheduleKind, ScheduleStatus, Trigger
from jobmaster.model.states import JobStatus
from jobmaster.ports.schedules import SchedulePage
from jobmaster.rules import schedule_changes as changes
from jobmaster.rules.schedule_changes import Bearer, Drop
from jobmaster.rules.schedule_lists import matches, place_of, read_page, written
from jobmaster.rules.storable import check_key, check_schedule
from jobmaster.stores.memory.cancels import Cancels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.schedule import ScheduleKey
    from jobmaster.ports.schedules import ScheduleChange, ScheduleQuery
    from jobmaster.stores.memory.rows import JobRow

OWNED = (JobStatus.ASSIGNED_TO_BUCKET, JobStatus.QUEUED)
NOT_BEGUN = (JobStatus.HELD_ON_MASTER, *OWNED)
ACTIVE = ScheduleStatus.ACTIVE


class Schedules(Cancels):
    """The verbs about schedules themselves."""

    async def add_schedule(self, schedule: Schedule) -> Schedule:
        self._begin()
        check_schedule(schedule)
        await self._pause()
        now = self._begin()
        there = self.schedules.get(schedule.key) or self.schedules.bearing(schedule.name)
        if there is not None:
            return changes.seen(there)
        new = changes.added(schedule, now)
        self.schedules.put(new)
        self.hub.send(("schedules",))
        return new

    async def ensure_schedules(self, schedules: Sequence[Schedule]) -> list[Schedule]:
        self._begin()
        for schedule in schedules:
            check_schedule(schedule)
        await self._pause()
        now = self._begin()
        bearers = (self.schedules.bearing(schedule.name) for schedule in schedules)
        given = changes.named(schedules, [Bearer(one.name, one.key, one.kind) for one in bearers if one is not None])
        for key in given.lose:
            self._unname(key)
        return [self._ensure(schedule, now) for schedule in given.schedules]

    def _unname(self, key: ScheduleKey) -> None:
        stored = self.schedules.get(key)
        if stored is not None:
            self.schedules.put(replace(stored, name=""))

    def _ensure(self, wanted: Schedule, now: int) -> Schedule:
        stored = self.schedules.get(wanted.key)
        if stored is None:
            new = changes.added(wanted, now)
        else:
            new, drops = changes.ensured(stored, wanted, now)
            if drops is not Drop.NOTHING:
                self._drop_planned(wanted.key, now, drops)
                new = changes.rewound(new, self._latest(new, now), now)
        self.schedules.put(new)
        if stored is None or stored.plan_at_us != new.plan_at_us:
            self.hub.send(("schedules",))
        return changes.seen(new)

    async def keep_schedules(
        self, schedules: Sequence[Schedule], *, fresh_us: int = 0, lost_us: int
    ) -> list[ScheduleKey]:
        now = self._begin()
        lacking = []
        for wanted in schedules:
            stored = self.schedules.get(wanted.key)
            if changes.lacks(stored, wanted, now, lost_us):
                lacking.append(wanted.key)
            if stored is None:
                continue
            new = changes.kept(stored, wanted, now, fresh_us)
            self.schedules.put(new)
            if new.plan_at_us != stored.plan_at_us:
                self.hub.send(("schedules",))
        return lacking

    async def expire_schedules(self, *, idle_us: int, limit: int) -> list[ScheduleKey]:
        now = self._begin()
        static = [one for one in self.schedules if one.kind is ScheduleKind.STATIC and one.status is ACTIVE]
        idle = sorted(one.key for one in static if one.ensured_us < now - idle_us)[:limit]
        for key in idle:
            stored = self.schedules.get(key)
            if stored is not None:
                self.schedules.put(changes.expired(stored, now))
                self._drop_planned(key, now, Drop.ALL)
        return idle

    async def change_schedule(
        self, key: ScheduleKey, change: ScheduleChange, *, version: int | None, planned_us: int | None = None
    ) -> Schedule | None:
        self._begin()
        check_key(key)
        await self._pause()
        now = self._begin()
        stored = self.schedules.get(key)
        if stored is None or not self._is_version(stored, version):
            return None
        changed = changes.changed(stored, change, now, planned_us)
        if changed is None:
            return None
        new, drops = changed
        check_schedule(new)
        bearer = self.schedules.bearing(new.name)
        changes.check_name(new, None if bearer is None else bearer.key)
        if drops is not Drop.NOTHING:
            self._drop_planned(key, now, drops)
            new = changes.rewound(new, self._latest(new, now), now)
        self.schedules.put(new)
        if new != stored:
            self.hub.send(("schedules",))
        return changes.seen(new)

    def _is_version(self, stored: Schedule, version: int | None) -> bool:
        return version is None or version == stored.version

    def _latest(self, schedule: Schedule, now: int) -> int | None:
        """The latest occurrence of its series that has come."""
        there = self.schedules.occurrences.get(schedule.key, {}).values()
        of_series = (
            one.at_us for one in there if one.trigger is not Trigger.RUN_NOW and not self._was_dropped(one.key)
        )
        return max((at for at in of_series if schedule.since_us < at <= now), default=None)

    def _was_dropped(self, key: JobKey) -> bool:
        """It may be of another series, before the schedule began anew."""
        row = self.jobs.get(key)
        return row is not None and row.status is JobStatus.CANCELLED and row.reason == SCHEDULE_CHANGED

    def _drop_planned(self, key: ScheduleKey, now: int, drops: Drop) -> None:
        """*drop*: what is planned for later and has not begun goes."""
        occurrences = self.schedules.occurrences.get(key, {})
        for at in [at for at in occurrences if at > now]:
            row = self.jobs.get(occurrences[at].key)
            if row is None:
                continue
            if row.status is JobStatus.HELD_ON_MASTER and not row.attempts:
                if changes.is_forgotten(key, at, row.key):
                    self.jobs.delete([row.key])
                    del occurrences[at], self.schedules.recorded[key, at]
                else:
                    self._take_back(row, now)
            elif drops is Drop.ALL and row.status in OWNED:
                self._take_back(row, now)
        if drops is Drop.ALL:
            self._drop_jittered(key, now)

    async def purge_schedules(self, *, before_us: int, limit: int) -> int:
        now = self._begin()
        ended = (one for one in self.schedules if one.ended_us is not None and one.status.is_final)
        gone = [one.key for one in ended if max(one.ended_us or 0, one.ensured_us) < before_us]
        for key in sorted(gone)[:limit]:
            self.schedules.delete(key)
        kept = self.schedules.occurrences
        aged = ((at, key) for key, there in kept.items() for at in there if at < before_us)
        old = sorted((at, key) for at, key in aged if self._may_be_forgotten(key, at, now, before_us))[:limit]
        for at, key in old:
            del kept[key][at]
            self.schedules.recorded.pop((key, at), None)
        return len(old)

    def _may_be_forgotten(self, key: ScheduleKey, at: int, now: int, before_us: int) -> bool:
        """The latest of its series that has come stays with its schedule: the series may go on from it."""
        if self.schedules.recorded.get((key, at), 0) >= before_us:
            return False
        if self.schedules.get(key) is None:
            return True
        there = self.schedules.occurrences[key]
        by_hand = there[at].trigger is Trigger.RUN_NOW
        later = (one for one in there.values() if at < one.at_us <= now)
        return any(by_hand or one.trigger is not Trigger.RUN_NOW for one in later)

    def _drop_jittered(self, key: ScheduleKey, now: int) -> None:
        """What had its moment, and begins later."""
        stored, waiting = self.schedules.get(key), self.schedules.waiting.get(key, set())
        jitter_us = 0 if stored is None else stored.rule.jitter_us
        for at, record in self.schedules.occurrences.get(key, {}).items():
            row = self.jobs.get(record.key)
            comes = now - jitter_us < at <= now and record.trigger is Trigger.SCHEDULE and at not in waiting
            if comes and row is not None and not row.attempts and row.due_us > now and row.status in NOT_BEGUN:
                self._take_back(row, now)

    def _take_back(self, row: JobRow, now: int) -> None:
        """From its owner, who is told; a later plan may have the moment again."""
        self._cancel_row(row, now)
        self.jobs.change(row, reason=SCHEDULE_CHANGED)

    # -- questions

    async def list_schedules(self, query: ScheduleQuery, *, limit: int = 50, after: str | None = None) -> SchedulePage:
        self._begin()
        place = read_page(limit, after)
        found = sorted((one for one in self.schedules if matches(query, one)), key=place_of)
        if place is not None:
            found = [one for one in found if place_of(one) > place]
        page = found[:limit]
        more = len(found) > limit
        return SchedulePage([changes.seen(one) for one in page], written(place_of(page[-1])) if more else None)

    async def get_schedule(self, key: ScheduleKey) -> Schedule | None:
        self._begin()
        check_key(key)
        stored = self.schedules.get(key)
        return None if stored is None else changes.seen(stored)

    async def find_schedule(self, name: str) -> Schedule | None:
        self._begin()
        stored = self.schedules.bearing(name)
        return None if stored is None else changes.seen(stored)
