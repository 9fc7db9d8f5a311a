"""NaturalCron: recurrence rules in words (`every 2 weeks on [monday, friday] at 9:00`).

    from jobmaster.schedules.natural import Daily, Every, NaturalCron, Weekday
    NaturalCron("every day at 9:00", tz="Europe/Berlin")
    Every(30).minutes().between("9:00", "18:00").on(Weekday.MONDAY, Weekday.FRIDAY).build()

A text goes through `grammar` (lark; words: `vocabulary`) to phrases, through `reading` and `values` to `rules`, which
`checking` looks at as a whole; `diagnosis` says what is wrong with a text that the grammar does not take. From rules,
`occurrences` computes moments, `explaining` English, `to_cron` cron lines. Names are imported when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobmaster.schedules.natural.builder import (
        Daily,
        Every,
        Hourly,
        Minutely,
        Monthly,
        Secondly,
        Start,
        Weekly,
        Yearly,
    )
    from jobmaster.schedules.natural.calendar_names import DayPosition, Month, MonthDay, Nth, Weekday
    from jobmaster.schedules.natural.cron_fields import CronDialect
    from jobmaster.schedules.natural.expression import NaturalCron
    from jobmaster.schedules.natural.to_cron import CronConversionError

__all__ = [
    "CronConversionError",
    "CronDialect",
    "Daily",
    "DayPosition",
    "Every",
    "Hourly",
    "Minutely",
    "Month",
    "MonthDay",
    "Monthly",
    "NaturalCron",
    "Nth",
    "Secondly",
    "Start",
    "Weekday",
    "Weekly",
    "Yearly",
]

_HOMES = {
    "CronConversionError": "to_cron",
    "CronDialect": "cron_fields",
    "DayPosition": "calendar_names",
    "Month": "calendar_names",
    "MonthDay": "calendar_names",
    "NaturalCron": "expression",
    "Nth": "calendar_names",
    "Weekday": "calendar_names",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'builder')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
