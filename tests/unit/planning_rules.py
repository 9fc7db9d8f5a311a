"""Rules of the simplest kinds, which count the questions that they are asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from jobmaster.model.job import Envelope, encode_envelope
from jobmaster.model.schedule import Misfire, Rule, Schedule, ScheduleKey, ScheduleKind
from jobmaster.rules.series import moment_of

SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
EPOCH = 1_800_000_000 * SECOND
"""Some whole minute."""


class Asked:
    """What all rules of these tests share."""

    type_id = "test"
    text = "test"
    zone = None
    is_phased = False

    def __init__(self) -> None:
        self.questions = 0

    def in_zone(self, zone: object) -> Any:
        return self

    def next_after(self, moment: datetime) -> datetime | None:
        self.questions += 1
        at = self.following((moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))
        return None if at is None else moment_of(at)

    def following(self, at_us: int) -> int | None:
        raise NotImplementedError

    def has_ended(self, moment: datetime) -> bool:
        return self.next_after(moment) is None

    def explain(self) -> str:
        return "whenever a test says"


class Aligned(Asked):
    """At EPOCH and whole periods before and after it, whenever somebody asks: as cron does."""

    def __init__(self, period_us: int) -> None:
        super().__init__()
        self.period_us, self.shift_us = period_us, EPOCH % period_us

    def following(self, at_us: int) -> int | None:
        return (at_us - self.shift_us) // self.period_us * self.period_us + self.period_us + self.shift_us


class Followed(Asked):
    """A period after the one before, and no way but to follow them."""

    is_phased = True

    def __init__(self, period_us: int) -> None:
        super().__init__()
        self.period_us = period_us

    def following(self, at_us: int) -> int | None:
        return at_us + self.period_us


class Leaping(Followed):
    """The same, with a way to leap."""

    def latest(self, after: datetime, until: datetime, count: int) -> list[datetime]:
        self.questions += 1
        period = timedelta(microseconds=self.period_us)
        number = (until - after) // period
        return [after + period * index for index in range(max(1, number - count + 1), number + 1)]


class Moments(Asked):
    """Some single moments."""

    def __init__(self, moments: Sequence[int]) -> None:
        super().__init__()
        self.moments = sorted(moments)

    def following(self, at_us: int) -> int | None:
        return next((moment for moment in self.moments if moment > at_us), None)


class Answering(Asked):
    """What the test's function says."""

    def __init__(self, answer: Callable[[datetime], Any], *, is_phased: bool = False) -> None:
        super().__init__()
        self.answer, self.is_phased = answer, is_phased

    def next_after(self, moment: datetime) -> datetime | None:
        return self.answer(moment)  # type: ignore[no-any-return]


def schedule(**fields: Any) -> Schedule:
    """A schedule that was made at EPOCH; what is no field of a schedule is one of its rule."""
    values: dict[str, Any] = {
        "key": ScheduleKey(bytes(range(16))),
        "name": "report",
        "kind": ScheduleKind.DYNAMIC,
        "task": "reports.make",
        "template": encode_envelope(Envelope(task="reports.make", call=b"c", created_us=0, scheduled_us=0)),
        "since_us": EPOCH,
        "created_us": EPOCH,
    }
    rule: dict[str, Any] = {"misfire": Misfire.ONCE}
    for name, value in fields.items():
        (rule if name in Rule.__struct_fields__ else values)[name] = value
    return Schedule(rule=Rule(type_id="test", text="test", **rule), **values)
