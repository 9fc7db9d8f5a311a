"""The tables of schedules and occurrences in memory, with their indexes."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from jobmaster.model.schedule import OccurrenceRecord, Schedule, ScheduleKey, ScheduleStatus

if TYPE_CHECKING:
    from collections.abc import Iterator


class ScheduleTable:
    """Schedules by key, by name, and by when a planner must look; their occurrences by moment.

    Attributes:
        occurrences: by schedule and moment.
        recorded: when each occurrence was stored, by schedule and moment.
        waiting: moments whose jobs were told to wait for an earlier one, by schedule. A hint: their rows decide.
    """

    def __init__(self) -> None:
        self._rows: dict[ScheduleKey, Schedule] = {}
        self._named: dict[str, ScheduleKey] = {}
        self._due: list[tuple[int, ScheduleKey]] = []
        self.occurrences: dict[ScheduleKey, dict[int, OccurrenceRecord]] = {}
        self.waiting: dict[ScheduleKey, set[int]] = {}
        self.recorded: dict[tuple[ScheduleKey, int], int] = {}

    def get(self, key: ScheduleKey) -> Schedule | None:
        """The schedule of a key."""
        return self._rows.get(key)

    def __iter__(self) -> Iterator[Schedule]:
        return iter(list(self._rows.values()))

    def bearing(self, name: str) -> Schedule | None:
        """The schedule that bears a name and is not Canceled."""
        key = self._named.get(name)
        return None if key is None else self._rows[key]

    def put(self, schedule: Schedule) -> None:
        """Store a schedule, new or changed."""
        old = self._rows.get(schedule.key)
        if old is not None:
            self._unindex(old)
        self._rows[schedule.key] = schedule
        if _bears(schedule):
            self._named[schedule.name] = schedule.key
        if schedule.plan_at_us is not None:
            insort(self._due, (schedule.plan_at_us, schedule.key))

    def delete(self, key: ScheduleKey) -> None:
        """Forget a schedule; its occurrences stay."""
        self._unindex(self._rows.pop(key))
        self.waiting.pop(key, None)

    def due(self, now_us: int, limit: int) -> list[Schedule]:
        """Those that a planner must look at, the earliest first."""
        found = []
        for at, key in self._due[:limit]:
            if at > now_us:
                break
            found.append(self._rows[key])
        return found

    def next_plan_us(self) -> int | None:
        """When a planner must look at the next one."""
        return self._due[0][0] if self._due else None

    def _unindex(self, schedule: Schedule) -> None:
        if self._named.get(schedule.name) == schedule.key:
            del self._named[schedule.name]
        if schedule.plan_at_us is not None:
            del self._due[bisect_left(self._due, (schedule.plan_at_us, schedule.key))]


def _bears(schedule: Schedule) -> bool:
    return bool(schedule.name) and schedule.status is not ScheduleStatus.CANCELED
