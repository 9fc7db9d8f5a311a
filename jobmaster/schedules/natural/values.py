"""From values as they are written to units and numbers: `21st Jan 10:30pm` is day 21, month 1, hour 22, minute 30."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeGuard

from jobmaster.schedules.natural.phrases import Atom, Group, Shape
from jobmaster.schedules.natural.problems import Kind, Problem, Refusal, refuse
from jobmaster.schedules.natural.rules import ClosestWeekday, MonthEdge, Part, Span, SpecialDay, Unit
from jobmaster.schedules.natural.vocabulary import WORDS, Class, suggestion


class Setting(NamedTuple):
    """Where a group of values stands.

    Attributes:
        kind: BAD_POINT or BAD_RANGE: the reason if a unit does not have a value.
        unit: the unit before the bracket, that of bare numbers.
        like: units of the start of the range, if the group is its end.
        meant: how a bare number would fit to the other end (`{}:00`), for suggestions; empty: not known.
        word: that of the clause, for suggestions.
    """

    kind: Kind
    unit: Unit | None = None
    like: Sequence[Unit] = ()
    meant: str = ""
    word: str = ""


_GREATEST_NTH = 5
_NO_NUMBER: int = -1  # stands for a number that was refused: the reading goes on, to find other problems


class _Reader:
    """Reads one group from left to right."""

    def __init__(self, setting: Setting, problems: list[Problem]) -> None:
        self.parts: list[Part] = []
        self._setting = setting
        self._problems = problems
        self._month_may_follow = False
        self._year_may_follow = False

    def read(self, group: Group) -> None:
        for index, atom in enumerate(group):
            following = group[index + 1] if index + 1 < len(group) else None
            match atom.shape:
                case Shape.CLOCK:
                    self._clock(atom)
                case Shape.HOUR:
                    self._add(Unit.HOUR, self._half_day(int(atom.text), atom, atom.span), atom.span)
                case Shape.DATE:
                    self._date(atom)
                case Shape.ORDINAL:
                    self._ordinal(atom, following)
                case Shape.NUMBER:
                    self._number(atom, following)
                case Shape.EDGE:
                    self._edge(atom, following)
                case Shape.NAMED:
                    self._named(atom)

    # ------------------------------------------------------------------------------------------------ one shape each

    def _clock(self, atom: Atom) -> None:
        texts = atom.text.split(":")
        start = atom.span.start
        if len(texts) > 3:  # noqa: PLR2004 - hours, minutes, seconds
            raise refuse(
                Kind.BAD_CLAUSE,
                "a time has at most hours, minutes and seconds",
                _piece(start, texts, 3, separated=True),
                ":".join(texts[:3]),
            )
        for index, unit in enumerate((Unit.HOUR, Unit.MINUTE, Unit.SECOND)[: len(texts)]):
            number, span = int(texts[index]), _piece(start, texts, index)
            self._add(unit, self._half_day(number, atom, span) if unit is Unit.HOUR else number, span)

    def _half_day(self, hour: int, atom: Atom, span: Span) -> int:
        if atom.afternoon is None:
            return hour
        if hour > 12:  # noqa: PLR2004 - the 12-hour clock
            half = "pm" if atom.afternoon else "am"
            self._problem(
                f"{hour} {half} is no time of a 12-hour clock; leave `{half}` out for the 24-hour clock", span, ""
            )
            return _NO_NUMBER
        return hour % 12 + (12 if atom.afternoon else 0)

    def _date(self, atom: Atom) -> None:
        texts = atom.text.split("-")
        spans = [_piece(atom.span.start, texts, index) for index in range(len(texts))]
        for text, span in zip(texts, spans, strict=True):
            _check_word_in_date(text, span)
        if len(texts) > 3:  # noqa: PLR2004 - year, month, day
            raise refuse(
                Kind.BAD_CLAUSE,
                "a date has at most year, month and day",
                _piece(atom.span.start, texts, 3, separated=True),
                "-".join(texts[:3]),
            )
        year_first = len(texts) == 3 or (len(texts[0]) > 2 and texts[0].isdigit())  # noqa: PLR2004 - digits of a month
        if year_first:
            if len(texts[0]) != 4 or not texts[0].isdigit():  # noqa: PLR2004 - digits of a year
                raise refuse(
                    Kind.BAD_DATE,
                    f"a year has four digits and stands first, `{texts[0]}` is none",
                    spans[0],
                    f"20{texts[0]}" if len(texts[0]) == len(texts[-1]) == 2 else "",  # noqa: PLR2004 - `23-01-31`
                )
            self._add(Unit.YEAR, int(texts[0]), spans[0])
        first = 1 if year_first else 0
        self._add(Unit.MONTH, _month_in_date(texts[first], spans[first]), spans[first])
        if len(texts) > first + 1:
            self._add(Unit.DAY, _day_in_date(texts[first + 1], spans[first + 1]), spans[first + 1])

    def _ordinal(self, atom: Atom, following: Atom | None) -> None:
        if int(atom.text) <= _GREATEST_NTH and _is_weekday(following):
            raise _nth_weekday_apart(f"{atom.text}{ordinal_suffix(int(atom.text))}", atom, following)
        self._add(Unit.DAY, int(atom.text), atom.span)
        named = self._names(Unit.MONTH)
        self._month_may_follow = not named
        self._year_may_follow = named and not self._names(Unit.YEAR)

    def _number(self, atom: Atom, following: Atom | None) -> None:
        number = int(atom.text)
        if atom.unit is not None:
            self._add(atom.unit, number, atom.span)
        elif self._month_may_follow:
            self._month_may_follow, self._year_may_follow = False, True
            self._add(Unit.MONTH, number, atom.span)
        elif self._year_may_follow:
            self._year_may_follow = False
            self._add(Unit.YEAR, number, atom.span)
        elif following is not None and following.shape in {Shape.CLOCK, Shape.HOUR} and not self._names(Unit.DAY):
            self._add(Unit.DAY, number, atom.span)
        else:
            self._add(self._assumed_unit(atom), number, atom.span)

    def _edge(self, atom: Atom, following: Atom | None) -> None:
        if atom.unit is None and self._setting.unit is None and _is_weekday(following):
            raise _nth_weekday_apart(atom.text.title(), atom, following)
        unit = atom.unit or self._assumed_unit(atom)
        edge = atom.value
        if unit is not Unit.DAY and isinstance(edge, MonthEdge):
            edge = max(unit.lowest, min(unit.highest, (unit.highest if edge.last else unit.lowest) + edge.shift))
        self._add(unit, edge, atom.span)

    def _named(self, atom: Atom) -> None:
        unit = atom.unit or Unit.DAY
        if atom.prefix not in {None, unit}:
            self._problem(f"`{atom.text}` is {_A[unit]}, no {_name(atom.prefix)}", atom.span)
        if isinstance(atom.value, ClosestWeekday):
            self._check(Unit.DAY, atom.value.day, atom.span)
        self._add(unit, atom.value, atom.span)
        if unit is Unit.MONTH:
            self._year_may_follow, self._month_may_follow = self._month_may_follow, False

    # ------------------------------------------------------------------------------------------------------- together

    def _names(self, unit: Unit) -> bool:
        return any(part.unit is unit for part in self.parts)

    def _assumed_unit(self, atom: Atom) -> Unit:
        if self._setting.unit is not None:
            return self._setting.unit
        if len(self.parts) < len(self._setting.like):
            return self._setting.like[len(self.parts)]
        if atom.shape is Shape.EDGE:
            raise refuse(Kind.BAD_CLAUSE, f"`{atom.text}` of what? A unit is missing", atom.span, f"{atom.text} day")
        number = int(atom.text)
        meant = f"{number}{ordinal_suffix(number)}" if 1 <= number <= Unit.DAY.highest else f"year {number}"
        if self._setting.meant:
            meant = self._setting.meant.format(number)
        elif self._setting.word == "at" and number <= Unit.HOUR.highest:
            meant = f"{number}:00"
        raise refuse(
            Kind.BAD_CLAUSE,
            f"{number} has no unit: write a day as `10th`, a time as `10:00` or `10am`, others with their unit",
            atom.span,
            meant if number <= Unit.YEAR.highest else "",
        )

    def _add(self, unit: Unit, value: int | SpecialDay, span: Span) -> None:
        if self._names(unit):
            raise refuse(
                Kind.BAD_CLAUSE,
                f"two values for the {_name(unit)} in one place; alternatives stand in brackets: `[a, b]`",
                span,
            )
        if isinstance(value, int):
            value = self._check(unit, value, span)
        self.parts.append(Part(unit, value, span))

    def _check(self, unit: Unit, number: int, span: Span) -> int:
        if unit.lowest <= number <= unit.highest:
            return number
        if number != _NO_NUMBER:
            self._problem(
                f"{_shortened(number)} is no {_name(unit)}: it lies between {unit.lowest} and {unit.highest}", span
            )
        return unit.lowest

    def _problem(self, message: str, span: Span, meant: str = "") -> None:
        self._problems.append(Problem(self._setting.kind, message, span, meant))


def read_group(group: Group, setting: Setting, problems: list[Problem]) -> list[Part]:
    """The parts of a group of values, in the order in which they are written.

    Args:
        group: the values.
        setting: where they stand.
        problems: gets a problem for every value that its unit does not have; the part is there all the same.

    Raises:
        Refusal: a value cannot be read.
    """
    reader = _Reader(setting, problems)
    reader.read(group)
    if setting.unit is not None and all(part.unit is not setting.unit for part in reader.parts):
        atom = group[0]
        unit = reader.parts[0].unit
        problems.append(Problem(setting.kind, f"this is {_A[unit]}, no {_name(setting.unit)}", atom.span))
    return reader.parts


def _is_weekday(atom: Atom | None) -> TypeGuard[Atom]:
    return atom is not None and atom.shape is Shape.NAMED and atom.unit is Unit.WEEK and atom.prefix is None


def _nth_weekday_apart(nth: str, atom: Atom, weekday: Atom) -> Refusal:
    """`1st monday` would be "the 1st, if it is a Monday", which nobody means."""
    span = Span(atom.span.start, weekday.span.end)
    return refuse(Kind.BAD_CLAUSE, "the n-th weekday of the month is one word", span, nth + weekday.text.title())


# ------------------------------------------------------------------------------------------------------- parts of dates


def _check_word_in_date(text: str, span: Span) -> None:
    """A part of a date is a number or a word that exists."""
    if text.isdigit():
        return
    digits = len(text) - len(text.lstrip("0123456789"))
    word = WORDS.get(text[digits:].lower())
    if word is None:
        place = Span(span.start + digits, span.end)
        if digits and text[digits:].lower().startswith("t"):
            raise refuse(Kind.UNKNOWN_TOKEN, "between date and time stands a blank", Span(place.start, place.start + 1))
        message = f"`{text[digits:]}` is no word of NaturalCron"
        raise refuse(Kind.UNKNOWN_TOKEN, message, place, suggestion(text[digits:]))
    if word.type == Class.UNIT:
        raise refuse(Kind.BAD_CLAUSE, f"`{text[digits:]}`: units do not belong into a date", span)


def _month_in_date(text: str, span: Span) -> int:
    if text.isdigit() and len(text) == 2:  # noqa: PLR2004 - as it is written
        return int(text)
    word = WORDS.get(text.lower())
    if word is not None and word.type == Class.MONTH and isinstance(word.value, int):
        return word.value
    raise refuse(
        Kind.BAD_DATE,
        f"the month of a date has two digits or is a name, `{text}` is neither",
        span,
        f"0{text}" if text in set("123456789") else "",
    )


def _day_in_date(text: str, span: Span) -> int | MonthEdge:
    if text.isdigit() and len(text) == 2:  # noqa: PLR2004 - as it is written
        return int(text)
    word = WORDS.get(text.lower())
    if word is not None and word.value == MonthEdge(last=True):
        return MonthEdge(last=True)
    raise refuse(
        Kind.BAD_DATE,
        f"the day of a date has two digits or is `last`, `{text}` is neither",
        span,
        f"0{text}" if text in set("123456789") else "",
    )


def _piece(start: int, texts: list[str], index: int, *, separated: bool = False) -> Span:
    """The place of one part of a text that was split at single characters; `separated`: with the one before it."""
    begin = start + sum(len(text) + 1 for text in texts[:index])
    return Span(begin - 1 if separated else begin, begin + len(texts[index]))


# ---------------------------------------------------------------------------------------------------------------- words

_A = {
    Unit.SECOND: "a second",
    Unit.MINUTE: "a minute",
    Unit.HOUR: "an hour",
    Unit.DAY: "a day of the month",
    Unit.WEEK: "a day of the week",
    Unit.MONTH: "a month",
    Unit.YEAR: "a year",
}


def _name(unit: Unit | None) -> str:
    return "" if unit is None else _A[unit].partition(" ")[2]


def _shortened(number: int) -> str:
    text = str(number)
    return text if len(text) <= 12 else f"{text[:9]}..."  # noqa: PLR2004 - for people


def ordinal_suffix(number: int) -> str:
    """`st`, `nd`, `rd` or `th`, as English has it."""
    if number % 100 in {11, 12, 13}:
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
