"""Expressions put together by calls: `Every(30).minutes().between("09:00", "18:00").build()`.

A builder makes text of the language and nothing else; `build` reads it like any other text. Builders are immutable:
each call gives a new one, so one may be the beginning of several.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

from jobmaster.schedules.natural.calendar_names import Month, Weekday
from jobmaster.schedules.natural.drafting import Draft, Value


@dataclass(frozen=True, slots=True)
class Frequency(Draft):
    """Directly after `every ...`: an anchor may follow, as may everything else."""

    def anchored_on(self, value: int | Weekday | Month | str) -> Draft:
        """Aligned to a value of the unit of `every`: `Every(2).months().anchored_on(Month.JULY)`."""
        return self._anchored("AnchoredOn", value)

    def anchored_in(self, value: int | Month | str) -> Draft:
        """The same as `anchored_on`, for months and years."""
        return self._anchored("AnchoredIn", value)

    def anchored_at(self, value: int | str) -> Draft:
        """The same as `anchored_on`, for hours, minutes and seconds."""
        return self._anchored("AnchoredAt", value)

    def _anchored(self, word: str, value: int | Weekday | Month | str) -> Draft:
        return self._with(word, value if isinstance(value, Weekday | Month | str) else str(value))


@dataclass(frozen=True, slots=True)
class EveryOne:
    """`every`, before its unit."""

    _draft: Draft

    def second(self) -> Frequency:
        """Each second."""
        return self._of("second")

    def minute(self) -> Frequency:
        """Each minute."""
        return self._of("minute")

    def hour(self) -> Frequency:
        """Each hour."""
        return self._of("hour")

    def day(self) -> Frequency:
        """Each day."""
        return self._of("day")

    def week(self) -> Frequency:
        """Each week."""
        return self._of("week")

    def month(self) -> Frequency:
        """Each month."""
        return self._of("month")

    def year(self) -> Frequency:
        """Each year."""
        return self._of("year")

    def weekday(self, weekday: Weekday) -> Frequency:
        """Each Monday (Tuesday ...)."""
        return _frequency(self._draft, "every", weekday)

    def _of(self, unit: str) -> Frequency:
        return _frequency(self._draft, "every", unit)


@dataclass(frozen=True, slots=True)
class EveryMany:
    """`every 5`, before its unit."""

    _draft: Draft
    _count: int

    def seconds(self) -> Frequency:
        """Every so many seconds."""
        return self._of("second")

    def minutes(self) -> Frequency:
        """Every so many minutes."""
        return self._of("minute")

    def hours(self) -> Frequency:
        """Every so many hours."""
        return self._of("hour")

    def days(self) -> Frequency:
        """Every so many days."""
        return self._of("day")

    def weeks(self) -> Frequency:
        """Every so many weeks."""
        return self._of("week")

    def months(self) -> Frequency:
        """Every so many months."""
        return self._of("month")

    def years(self) -> Frequency:
        """Every so many years."""
        return self._of("year")

    def _of(self, unit: str) -> Frequency:
        return _frequency(self._draft, "every", f"{self._count} {unit}{'' if self._count == 1 else 's'}")


@dataclass(frozen=True, slots=True)
class Start(Draft):
    """The beginning of an expression; `Every` and `Daily` begin one, too.

    `Start().on("LastDay").build()`, `Start().use_ampersat().every(5).minutes().build()`.
    """

    @overload
    def every(self) -> EveryOne: ...

    @overload
    def every(self, count: int) -> EveryMany: ...

    def every(self, count: int | None = None) -> EveryOne | EveryMany:
        """Every unit, or every so many of them."""
        return EveryOne(self) if count is None else EveryMany(self, count)

    def secondly(self) -> Frequency:
        """Each second."""
        return _frequency(self, "secondly")

    def minutely(self) -> Frequency:
        """Each minute."""
        return _frequency(self, "minutely")

    def hourly(self) -> Frequency:
        """Each hour."""
        return _frequency(self, "hourly")

    def daily(self) -> Frequency:
        """Each day."""
        return _frequency(self, "daily")

    def weekly(self) -> Frequency:
        """Each week."""
        return _frequency(self, "weekly")

    def monthly(self) -> Frequency:
        """Each month."""
        return _frequency(self, "monthly")

    def yearly(self) -> Frequency:
        """Each year."""
        return _frequency(self, "yearly")


def _frequency(draft: Draft, word: str, *values: Value) -> Frequency:
    return Frequency((*draft.clauses, (word, values)), draft.spelling)


# ----------------------------------------------------------------------------------------------------------- beginnings


@overload
def Every() -> EveryOne: ...


@overload
def Every(count: int) -> EveryMany: ...


def Every(count: int | None = None) -> EveryOne | EveryMany:  # noqa: N802 - reads as the beginning of a sentence
    """The beginning of a rule: `Every().day()`, `Every(30).minutes()`."""
    return EveryOne(Start()) if count is None else EveryMany(Start(), count)


def Secondly() -> Frequency:  # noqa: N802 - reads as the beginning of a sentence
    """Each second."""
    return Start().secondly()


def Minutely() -> Frequency:  # noqa: N802 - reads as the beginning of a sentence
    """Each minute."""
    return Start().minutely()


def Hourly() -> Frequency:  # noqa: N802 - reads as the beginning of a sentence
    """Each hour."""
    return Start().hourly()


def Daily() -> Frequency:  # noqa: N802 - reads as the beginning of a sentence
    """Each day."""
    return Start().daily()


def Weekly() -> Frequency:  # noqa: N802 - reads as the beginning of a sentence
    """Each week."""
    return Start().weekly()


def Monthly() -> Frequency:  # noqa: N802 - reads as the beginning of a sentence
    """Each month."""
    return Start().monthly()


def Yearly() -> Frequency:  # noqa: N802 - reads as the beginning of a sentence
    """Each year."""
    return Start().yearly()
