"""What every recurrence rule offers, whatever language it is written in.

A rule is stored as (type id, text): `Expression.type_id` names its language, `Expression.text` is the rule in it. Rules
are values: no state, no clock. A rule without a zone of its own is computed in the zone that its schedule gives it
(`in_zone`), the cluster's if that has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import ClassVar, Protocol, runtime_checkable
from zoneinfo import ZoneInfo


@runtime_checkable
class Expression(Protocol):
    """A recurrence rule: the one protocol of NaturalCron, cron, intervals, calendars and custom providers."""

    type_id: ClassVar[str]
    """The language, as it is stored: "NaturalCron", "Cron", "TimeSpanInterval", "Dates", "Never-Recurs", ..."""

    @property
    def text(self) -> str:
        """The rule, so that `compile_expression(type_id, text)` gives an equal one (but for `zone`)."""
        ...

    @property
    def zone(self) -> ZoneInfo | None:
        """The zone of calculation: the text's own, or that of `in_zone`; None: UTC is assumed."""
        ...

    @property
    def is_phased(self) -> bool:
        """True: occurrences depend on the one before (`every 90 minutes`), so a series must be followed step by step.

        False: whether a moment is an occurrence depends on the moment alone (cron, `every day at 09:00`).
        """
        ...

    def in_zone(self, zone: ZoneInfo) -> Expression:
        """The same rule computed in `zone`; itself where the text names its own zone."""
        ...

    def next_after(self, moment: datetime) -> datetime | None:
        """The first occurrence strictly after `moment`.

        Args:
            moment: an aware datetime in any zone.

        Returns:
            An aware datetime in the rule's zone (in that of `moment` where it has none), or None: there is none any
            more. Bounded work for every rule.

        Raises:
            ValueError: `moment` has no zone.
        """
        ...

    def has_ended(self, moment: datetime) -> bool:
        """Whether there is no occurrence after `moment`."""
        ...

    def explain(self) -> str:
        """The rule in plain English, without a full stop: "every day at 9:00"."""
        ...


class Leaping(Protocol):
    """A phased rule that finds the last occurrences before a moment without following the series (an interval)."""

    def latest(self, after: datetime, until: datetime, count: int) -> list[datetime] | None:
        """The last `count` occurrences in (after, until], in order, of the series that goes on from `after`.

        None: they must be followed, from `after` on. Bounded work: an event loop waits for it.
        """
        ...


def occurrences(rule: Expression, after: datetime, *, until: datetime | None = None) -> Iterator[datetime]:
    """The series from `after` (exclusive) to `until` (inclusive)."""
    # In UTC: two moments of one zone compare by their wall clocks, which show an hour twice.
    last = None if until is None else until.astimezone(UTC)
    moment = rule.next_after(after)
    while moment is not None and (last is None or moment.astimezone(UTC) <= last):
        yield moment
        moment = rule.next_after(moment)
