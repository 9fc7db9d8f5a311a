"""What a recurring schedule is, and what its planner writes: the values that cross the port.

Times are integer microseconds since the epoch (UTC) by the store's clock and end in `_us`.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Final, NewType
from uuid import UUID, uuid5

import msgspec

from jobmaster.model.ids import JobKey
from jobmaster.model.job import NewJob

if TYPE_CHECKING:
    from collections.abc import Mapping

ScheduleKey = NewType("ScheduleKey", bytes)
"""A schedule's key: the 16 bytes of a UUID."""

_STATIC = UUID("2d9c0f5e-3c0b-5a43-8a52-73636865646c")

MOST_OCCURRENCES: Final = 900
"""One pass plans at most so many occurrences of one schedule."""


class ScheduleStatus(Enum):
    """Where a schedule is in its life. `str()` gives the name that people read, `.value` the number that is stored."""

    PENDING_SAVE = 1
    ACTIVE = 2
    CANCELED = 3
    INACTIVE = 4
    COMPLETED = 5

    def __str__(self) -> str:
        return self.name.title().replace("_", "")

    @property
    def is_final(self) -> bool:
        """True where no occurrence comes any more by itself; a static one that comes back to the code starts again."""
        return self in (ScheduleStatus.CANCELED, ScheduleStatus.INACTIVE, ScheduleStatus.COMPLETED)


SCHEDULE_MOVES: Mapping[ScheduleStatus, frozenset[ScheduleStatus]] = {
    ScheduleStatus.PENDING_SAVE: frozenset({ScheduleStatus.ACTIVE}),
    ScheduleStatus.ACTIVE: frozenset({ScheduleStatus.CANCELED, ScheduleStatus.INACTIVE, ScheduleStatus.COMPLETED}),
    ScheduleStatus.CANCELED: frozenset(),
    # A static schedule that is in the code again; a schedule whose end was moved.
    ScheduleStatus.INACTIVE: frozenset({ScheduleStatus.ACTIVE, ScheduleStatus.CANCELED}),
    ScheduleStatus.COMPLETED: frozenset({ScheduleStatus.ACTIVE, ScheduleStatus.CANCELED}),
}
"""Every move of a schedule. PendingSave is one that a store has not acknowledged yet."""


class ScheduleKind(IntEnum):
    """Who made a schedule."""

    STATIC = 2
    DYNAMIC = 3


class Trigger(IntEnum):
    """What made a job."""

    CALL = 1
    SCHEDULE = 2
    RUN_NOW = 3
    BACKFILL = 4


class Misfire(Enum):
    """What happens to occurrences that nobody started in time."""

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


class Overlap(IntEnum):
    """What happens to an occurrence that falls due while an earlier one of its schedule has begun and not ended."""

    ALLOW = 0
    SKIP = 1
    QUEUE = 2
    CANCEL_PREVIOUS = 3


class Rule(msgspec.Struct, frozen=True):
    """When and how a schedule fires; what an edit replaces."""

    type_id: str
    text: str
    zone: str = ""
    """IANA name for rules that name none; empty: the cluster's."""
    start_us: int | None = None
    end_us: int | None = None
    misfire: Misfire = Misfire.ONCE
    misfire_limit: int = 100
    misfire_grace_us: int = 60_000_000
    overlap: Overlap = Overlap.ALLOW
    jitter_us: int = 0


class Schedule(msgspec.Struct, frozen=True):
    """A schedule as the master has it.

    `template` is the encoded envelope of its jobs, whose moments the planner replaces. Everything up to `cursor_us` is
    planned or dropped; None: nothing was planned since it was made, edited or resumed at `since_us`.
    """

    key: ScheduleKey
    name: str
    kind: ScheduleKind
    rule: Rule
    task: str
    template: bytes
    lane: str = ""
    priority: int = 3
    source: str = ""
    """Where it stands in the code: "myapp.py:12", of static ones."""
    status: ScheduleStatus = ScheduleStatus.ACTIVE
    paused: bool = False
    error: str = ""
    """Not empty: it is parked, because its rule could not be computed."""
    version: int = 1
    created_us: int = 0
    since_us: int = 0
    cursor_us: int | None = None
    plan_at_us: int | None = None
    last_at_us: int | None = None
    """The latest occurrence that was planned."""
    ensured_us: int = 0
    """When a worker last said that its code has it (static ones)."""
    ended_us: int | None = None
    current_job: JobKey | None = None
    """The run that holds the schedule, where its overlap is not ALLOW."""


class Occurrence(msgspec.Struct, frozen=True):
    """One planned run: the moment that names it, and its job, whose envelope's `scheduled_us` is that moment."""

    at_us: int
    job: NewJob
    trigger: Trigger = Trigger.SCHEDULE


class Plan(msgspec.Struct, frozen=True):
    """One step of a schedule's planning: applied as a whole, or not at all where somebody else was faster."""

    key: ScheduleKey
    version: int
    cursor_us: int | None
    """What the planner read: the guard."""
    occurrences: list[Occurrence]
    new_cursor_us: int | None
    plan_at_us: int | None
    status: ScheduleStatus = ScheduleStatus.ACTIVE
    error: str = ""


class DueSchedules(msgspec.Struct, frozen=True):
    """Schedules that a planner shall look at, and when the next one is due (None: none is)."""

    schedules: list[Schedule]
    now_us: int
    next_us: int | None = None


class OccurrenceRecord(msgspec.Struct, frozen=True):
    """A planned run as it is remembered."""

    at_us: int
    key: JobKey
    trigger: Trigger


class ScheduleQuery(msgspec.Struct, frozen=True):
    """Filters of a list of schedules; None means any. `text` is a part of name, task, text of the rule or id."""

    statuses: tuple[ScheduleStatus, ...] | None = None
    kind: ScheduleKind | None = None
    task: str | None = None
    lane: str | None = None
    paused: bool | None = None
    broken: bool | None = None
    text: str | None = None


class SchedulePage(msgspec.Struct, frozen=True):
    """One page, by name (those without one last, by key). `after` continues it; None: the end."""

    schedules: list[Schedule]
    after: str | None = None


class ScheduleChange(msgspec.Struct, frozen=True):
    """What people change. None: stays as it is. Anything but a pause drops what was planned ahead."""

    rule: Rule | None = None
    template: bytes | None = None
    task: str | None = None
    lane: str | None = None
    priority: int | None = None
    name: str | None = None
    paused: bool | None = None
    status: ScheduleStatus | None = None
    """CANCELED ends it; ACTIVE takes a Completed or Inactive one up again."""
    clear_error: bool = False


def static_key(profile: str, definition: str) -> ScheduleKey:
    """The key of a static schedule: the same in every process whose code has it (UUID version 5, RFC 9562)."""
    return ScheduleKey(uuid5(_STATIC, f"{profile}:{definition}").bytes)


def occurrence_key(schedule: ScheduleKey, at_us: int, trigger: Trigger = Trigger.SCHEDULE) -> JobKey:
    """The key of an occurrence's job: the same whoever plans it, however often (UUID version 8, RFC 9562).

    A backfilled occurrence is the same run as the planned one; a run now is not. It begins with its moment, as other
    keys begin with the time of their making: stores keep jobs in the order of their keys, and old ones leave together.
    """
    word = "now" if trigger is Trigger.RUN_NOW else "at"
    digest = uuid5(UUID(bytes=schedule), f"{word}:{at_us}").bytes
    millis = min(max(at_us // 1_000, 0), (1 << 48) - 1)
    return JobKey(millis.to_bytes(6, "big") + _tail(digest))


def replanned_key(key: JobKey) -> JobKey:
    """The key of the run that takes the place of one that was cancelled because its schedule changed.

    Not the same again: whoever still has that one in memory is told of its cancel.
    """
    return JobKey(key[:6] + _tail(uuid5(UUID(bytes=key), "again").bytes))


def _tail(digest: bytes) -> bytes:
    return bytes([digest[6] & 0x0F | 0x80]) + digest[7:]
