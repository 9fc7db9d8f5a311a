"""What the grammar finds in a text: clauses as they were written, before anything is made of their values."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, TypeAlias

from jobmaster.schedules.natural.rules import RangeWord, Span, SpecialDay, Unit


class Shape(Enum):
    """How one value is written."""

    CLOCK = "10:30, 10:30:15 pm"
    HOUR = "9pm"
    DATE = "2023-01-23, Jan-23"
    ORDINAL = "21st"
    NUMBER = "10, with a unit or without"
    EDGE = "first, last, with a unit or without"
    NAMED = "a month, a weekday, a special day"


class Atom(NamedTuple):
    """One value as it is written.

    Attributes:
        shape: how it is written.
        text: the text of it, without unit, sign, am/pm.
        span: its place.
        value: MonthEdge of EDGE; number or day of NAMED.
        unit: the unit written beside the value; that of the name for NAMED; None: none is written.
        afternoon: am is False, pm is True, None: 24 hours.
        prefix: a unit written before a NAMED value (`day LastDay`), which must fit.
    """

    shape: Shape
    text: str
    span: Span
    value: int | SpecialDay = 0
    unit: Unit | None = None
    afternoon: bool | None = None
    prefix: Unit | None = None


Group: TypeAlias = list[Atom]
"""Values that hold together; never empty."""


class AnchorPhrase(NamedTuple):
    """`AnchoredOn 5`; `unit` is that of a name, None for a number."""

    value: int
    unit: Unit | None
    span: Span


class EveryPhrase(NamedTuple):
    """An every-clause; `weekday` is that of `every monday`, `number_span` the place of the number (or of the unit)."""

    number: int
    unit: Unit
    weekday: int | None
    anchor: AnchorPhrase | None
    span: Span
    number_span: Span


class PointPhrase(NamedTuple):
    """An on/in/at clause; `unit` stands before the bracket."""

    word: str
    unit: Unit | None
    groups: list[Group]
    span: Span


class PairPhrase(NamedTuple):
    """Both ends of a range, or one of them."""

    start: Group
    end: Group


class RangePhrase(NamedTuple):
    """A between/from/upto clause. A bound has an empty group as its other end; `unit` stands before the bracket."""

    word: RangeWord
    unit: Unit | None
    pairs: list[PairPhrase]
    span: Span


class ZonePhrase(NamedTuple):
    """A zone as it is written, the place of its name, and that of the clause."""

    name: str
    name_span: Span
    span: Span


Phrase: TypeAlias = EveryPhrase | PointPhrase | RangePhrase | ZonePhrase
