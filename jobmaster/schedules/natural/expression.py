"""NaturalCron as one of the recurrence rules."""

from __future__ import annotations

import functools
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar
from zoneinfo import ZoneInfo

from jobmaster.schedules.natural.reading import parse_rules
from jobmaster.schedules.zones import zone_of

if TYPE_CHECKING:
    from jobmaster.schedules.natural.cron_fields import CronDialect
    from jobmaster.schedules.natural.occurrences import Evaluator
    from jobmaster.schedules.natural.rules import Rules


class NaturalCron:
    """A rule in words: `NaturalCron("every day between mon and fri at 18:00", tz="Europe/Berlin")`. Immutable.

    Two are equal if their text (but for blanks) and their zone are.

    Args:
        text: the expression.
        tz: the zone whose clocks are meant where the text names none, as a name or a zone; None: that of the schedule,
            else UTC.

    Raises:
        ScheduleSyntaxError: `text` is no valid expression; with the places of all that is wrong.
        ConfigurationError: there is no zone `tz`.
    """

    type_id: ClassVar[str] = "NaturalCron"

    __slots__ = ("_evaluator", "_rules", "_text", "_zone")

    def __init__(self, text: str, tz: str | ZoneInfo | None = None) -> None:
        if not isinstance(text, str):
            raise TypeError(f"a NaturalCron expression is a text, not {type(text).__name__}")
        self._rules = parse_rules(text)
        self._text = " ".join(text.split())
        self._evaluator: Evaluator | None = None
        named = self._rules.zone
        if named is not None:
            self._zone: ZoneInfo | None = ZoneInfo(named)
        else:
            self._zone = None if tz is None else zone_of(tz)

    @classmethod
    def parse(cls, text: str, tz: str | ZoneInfo | None = None) -> NaturalCron:
        """The same as `NaturalCron(text, tz)`."""
        return cls(text, tz)

    @property
    def text(self) -> str:
        """The expression as it was written, but for blanks."""
        return self._text

    @property
    def zone(self) -> ZoneInfo | None:
        """The zone that the text names, else that of `tz` or `in_zone`; None: UTC is assumed."""
        return self._zone

    @property
    def rules(self) -> Rules:
        """What the expression means, clause by clause."""
        return self._rules

    @property
    def is_phased(self) -> bool:
        """Whether occurrences depend on the one before, as in `every 90 minutes`."""
        return self._computed().is_phased

    def in_zone(self, zone: ZoneInfo) -> NaturalCron:
        """The same rule by the clocks of `zone`; itself where the text names a zone."""
        return self if self._rules.zone is not None else NaturalCron(self._text, zone)

    def next_after(self, moment: datetime) -> datetime | None:
        """The first occurrence strictly after `moment`; see `Expression.next_after`."""
        if moment.tzinfo is None:
            raise ValueError(f"{moment} has no zone: write datetime(..., tzinfo=timezone.utc) or give it a ZoneInfo")
        try:
            found = self._computed().next_after(moment.astimezone(self._zone or UTC))
            if found is not None and found.year == MAXYEAR:
                found.astimezone(UTC)
            return found if found is None or self._zone is not None else found.astimezone(moment.tzinfo)
        except OverflowError:  # the calendar is over, in UTC or in a zone
            if moment.year == MINYEAR:
                raise
            return None

    def latest(self, after: datetime, until: datetime, count: int) -> list[datetime] | None:
        """The last `count` occurrences in (after, until], in order, of the series that goes on from `after`.

        None: following the series is as quick, or the only way; see `Leaping.latest`.
        """
        if after.tzinfo is None or until.tzinfo is None:
            raise ValueError(f"{after} or {until} has no zone: write datetime(..., tzinfo=timezone.utc)")
        from jobmaster.schedules.natural.leaping import latest

        found = latest(self._computed(), after.astimezone(self._zone or UTC), until, count)
        return found and [moment.astimezone(self._zone or after.tzinfo) for moment in found]

    def has_ended(self, moment: datetime) -> bool:
        """Whether nothing comes after `moment`: the last of the dates with a year is over."""
        return self.next_after(moment) is None

    def explain(self) -> str:
        """The rule in plain English: "every weekday at 18:00"."""
        from jobmaster.schedules.natural.explaining import explain

        return explain(self._rules)

    def next_wall(self, wall: datetime) -> datetime | None:
        """The first wall clock (naive) strictly after `wall`, as if clocks were never changed."""
        found = self._computed().next_after(wall.replace(tzinfo=UTC))
        return None if found is None else found.replace(tzinfo=None)

    def to_cron(self, dialect: CronDialect | None = None, *, seconds: bool = False) -> str:
        """The cron line that gives the same moments.

        Args:
            dialect: the kind of cron to write for; None: five fields, as crontab has them.
            seconds: six fields, seconds first.

        Raises:
            CronConversionError: no cron line means the same; it tells all reasons.
        """
        from jobmaster.schedules.natural.cron_fields import CronDialect
        from jobmaster.schedules.natural.to_cron import to_cron

        return to_cron(self._rules, dialect or CronDialect.CRONTAB, seconds=seconds)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NaturalCron):
            return NotImplemented
        return self._text == other._text and self._zone_name() == other._zone_name()

    def __hash__(self) -> int:
        return hash((self._text, self._zone_name()))

    def __repr__(self) -> str:
        tz = "" if self._zone is None or self._rules.zone is not None else f", tz={self._zone.key!r}"
        return f"NaturalCron({self._text!r}{tz})"

    def __str__(self) -> str:
        return self._text

    def __reduce__(self) -> tuple[Any, ...]:
        return NaturalCron, (self._text, None if self._rules.zone is not None else self._zone)

    def _computed(self) -> Evaluator:
        if self._evaluator is None:
            self._evaluator = _evaluator_of(self._text)
        return self._evaluator

    def _zone_name(self) -> str | None:
        return None if self._zone is None else self._zone.key


@functools.lru_cache(maxsize=1024)
def _evaluator_of(text: str) -> Evaluator:
    from jobmaster.schedules.natural.occurrences import Evaluator

    return Evaluator(parse_rules(text))
