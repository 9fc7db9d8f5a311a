"""What can be wrong with an expression, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from jobmaster.errors import ScheduleSyntaxError
from jobmaster.schedules.natural.rules import Span


class Kind(StrEnum):
    """The reasons for which an expression is refused."""

    TOO_LONG = "too-long"
    UNKNOWN_TOKEN = "unknown-token"  # noqa: S105 - no password
    BAD_CLAUSE = "bad-clause"
    BAD_DATE = "bad-date"
    NO_EVERY_AND_NO_POINT = "no-every-and-no-at-on-in"
    DUPLICATE_EVERY = "duplicate-every"
    SAME_UNIT_AS_EVERY = "at-on-in-same-unit-as-every"
    ANCHORED_WEEK_WITH_WEEKDAY = "anchored-week-with-weekday"
    DUPLICATE_POINT_UNIT = "duplicate-at-on-in-unit"
    RANGE_WITHOUT_EVERY = "between-without-every"
    BAD_RANGE = "bad-range"
    BAD_POINT = "bad-point"
    UNKNOWN_ZONE = "unknown-zone"
    INTERVAL_NOT_POSITIVE = "interval-not-positive"


class Problem(NamedTuple):
    """One thing that is wrong.

    Attributes:
        kind: the reason.
        message: a sentence without a full stop: what is wrong, why.
        span: the place.
        suggestion: what to write instead, or an empty text.
    """

    kind: Kind
    message: str
    span: Span
    suggestion: str = ""


class Refusal(Exception):  # noqa: N818 - never leaves this package; users see ScheduleSyntaxError
    """Reading cannot go on.

    Attributes:
        problem: why.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def refuse(kind: Kind, message: str, span: Span, suggestion: str = "") -> Refusal:
    """The exception to raise where one clause cannot be read at all."""
    return Refusal(Problem(kind, message, span, suggestion))


def as_error(text: str, problems: Sequence[Problem]) -> ScheduleSyntaxError:
    """The error that users see: that of the first problem, with the others in its `errors`."""
    first, *others = (
        ScheduleSyntaxError(
            problem.message,
            problem.span.start,
            text=text,
            kind=problem.kind.value,
            suggestion=problem.suggestion,
            length=max(1, problem.span.end - problem.span.start),
        )
        for problem in problems
    )
    first.others = tuple(others)
    return first
