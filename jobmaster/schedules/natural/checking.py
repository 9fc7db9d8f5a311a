"""The rules of a whole expression: which clauses go together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from jobmaster.schedules.natural.problems import Kind, Problem
from jobmaster.schedules.natural.rules import Every, Part, Point, Range, Span, Unit, Window, day_in_month


@dataclass(slots=True)
class Clauses:
    """All clauses of a text, in the order written; a zone with the place of its name."""

    every: list[Every] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    ranges: list[Range] = field(default_factory=list)
    zones: list[tuple[str, Span]] = field(default_factory=list)


def problems_of_the_whole(clauses: Clauses, values: Sequence[Problem]) -> list[Problem]:
    """What is wrong with clauses that can each be read.

    Args:
        clauses: the clauses.
        values: problems that reading found with single values.

    Returns:
        The first rule that is broken by clauses together, then what is wrong with values and ranges.
    """
    found = next((problem for rule in _TOGETHER if (problem := rule(clauses)) is not None), None)
    others = [*_ranges_without_every(clauses), *values, *_second_zones(clauses), *_backward_ranges(clauses, values)]
    others.sort(key=lambda problem: problem.span)
    return others if found is None else [found, *others]


# ---------------------------------------------------------------------------------------------------- clauses together


def _says_when(clauses: Clauses) -> Problem | None:
    if clauses.every or clauses.points:
        return None
    places = [clause.span for clause in clauses.ranges] + [span for _, span in clauses.zones]
    return Problem(
        Kind.NO_EVERY_AND_NO_POINT,
        "nothing says when: an expression has `every`, or `at`, `on`, `in`",
        min(places, default=Span(0, 0)),
        "every day at 9:00" if not places else "",
    )


def _one_every(clauses: Clauses) -> Problem | None:
    if len(clauses.every) < 2:  # noqa: PLR2004 - one is meant
        return None
    return Problem(
        Kind.DUPLICATE_EVERY, "`every` (or `daily` and the like) stands once in an expression", clauses.every[1].span
    )


def _points_differ_from_every(clauses: Clauses) -> Problem | None:
    if not clauses.every or clauses.every[0].unit is Unit.WEEK:
        return None
    unit = clauses.every[0].unit
    part = next((part for point in clauses.points for part in point.items[0] if part.unit is unit), None)
    if part is None:
        return None
    name, coarser = unit.name.lower(), _COARSER.get(unit, "")
    return Problem(
        Kind.SAME_UNIT_AS_EVERY,
        f"`every {name}` and a fixed {name} exclude each other" + (f"; `every {coarser}` takes one" if coarser else ""),
        part.span,
    )


_COARSER = {Unit.SECOND: "minute", Unit.MINUTE: "hour", Unit.HOUR: "day", Unit.DAY: "month", Unit.MONTH: "year"}


def _anchored_weeks_without_weekday(clauses: Clauses) -> Problem | None:
    if not clauses.every or clauses.every[0].unit is not Unit.WEEK or clauses.every[0].anchor is None:
        return None
    part = next((part for point in clauses.points for part in point.items[0] if part.unit is Unit.WEEK), None)
    if part is None:
        return None
    return Problem(
        Kind.ANCHORED_WEEK_WITH_WEEKDAY, "the weeks have a weekday already, by `every` or its anchor", part.span
    )


def _each_unit_in_one_point(clauses: Clauses) -> Problem | None:
    named: set[Unit] = set()
    for point in clauses.points:
        for part in sorted(point.items[0], key=lambda part: part.span):
            if part.unit in named:
                return Problem(
                    Kind.DUPLICATE_POINT_UNIT,
                    f"two clauses name the {'weekday' if part.unit is Unit.WEEK else part.unit.name.lower()}; "
                    "alternatives stand in one list: `[a, b]`",
                    part.span,
                )
        named.update(point.units)
    return None


_TOGETHER: tuple[Callable[[Clauses], Problem | None], ...] = (
    _says_when,
    _one_every,
    _points_differ_from_every,
    _anchored_weeks_without_weekday,
    _each_unit_in_one_point,
)


def _ranges_without_every(clauses: Clauses) -> Iterator[Problem]:
    if not clauses.every and clauses.points:
        for clause in clauses.ranges:
            message = f"`{clause.word.value}` needs an `every` whose times it limits"
            yield Problem(Kind.RANGE_WITHOUT_EVERY, message, clause.span)


def _second_zones(clauses: Clauses) -> Iterator[Problem]:
    for _, span in clauses.zones[1:]:
        yield Problem(Kind.BAD_CLAUSE, "an expression has one time zone", span)


# --------------------------------------------------------------------------------------------------------------- ranges


def _backward_ranges(clauses: Clauses, values: Sequence[Problem]) -> Iterator[Problem]:
    wrong = {problem.span for problem in values}
    for clause in clauses.ranges:
        for window in clause.windows:
            if wrong.isdisjoint(part.span for part in (*window.start, *window.end)) and _is_backward(window):
                yield Problem(
                    Kind.BAD_RANGE,
                    "the end of the range comes before its start; write what wraps around as two: `[a and b, c and d]`",
                    _whole(window.end),
                )


def _whole(parts: Sequence[Part]) -> Span:
    return Span(min(part.span.start for part in parts), max(part.span.end for part in parts))


def _is_backward(window: Window) -> bool:
    """Whether the end comes before the start in every month there is."""
    weekdays = [part.value for part in (*window.start, *window.end) if part.unit is Unit.WEEK]
    if weekdays and weekdays[0] > weekdays[1]:  # type: ignore[operator]
        return True
    plain = all(isinstance(part.value, int) for part in (*window.start, *window.end))
    months = _ALL_MONTHS[:1] if plain else _ALL_MONTHS
    return all(
        (start := _numbers(window.start, *month)) is None
        or (end := _numbers(window.end, *month)) is None
        or start > end
        for month in months
    )


_ALL_MONTHS = [(length, starts_on) for length in range(28, 32) for starts_on in range(1, 8)]


def _numbers(parts: Sequence[Part], length: int, starts_on: int) -> list[int] | None:
    numbers = []
    for part in parts:
        if part.unit is not Unit.WEEK:
            number = (
                part.value
                if isinstance(part.value, int)
                else day_in_month(part.value, length=length, starts_on=starts_on)
            )
            if number is None:
                return None
            numbers.append(number)
    return numbers
