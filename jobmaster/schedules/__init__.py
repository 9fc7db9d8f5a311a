"""Recurrence rules: NaturalCron, cron, intervals, calendars and custom ones. Usable alone, without a cluster.

    from jobmaster.schedules import Cron, NaturalCron, occurrences
    rule = NaturalCron.parse("every day between monday and friday at 9:00", tz="Europe/Berlin")
    rule.next_after(datetime.now(UTC))

Names are imported when they are used: a process that reads no cron expression never loads its parser.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from jobmaster.schedules.expression import Expression, occurrences
from jobmaster.schedules.providers import compile_expression, expression_of, register_provider

if TYPE_CHECKING:
    from jobmaster.schedules.cron import Cron
    from jobmaster.schedules.dates import Dates
    from jobmaster.schedules.interval import Interval
    from jobmaster.schedules.natural.builder import Every
    from jobmaster.schedules.natural.expression import NaturalCron
    from jobmaster.schedules.never import Never
    from jobmaster.schedules.zone_effects import Run, next_runs

__all__ = [
    "Cron",
    "Dates",
    "Every",
    "Expression",
    "Interval",
    "NaturalCron",
    "Never",
    "Run",
    "compile_expression",
    "expression_of",
    "next_runs",
    "occurrences",
    "register_provider",
]

_HOMES = {
    "Cron": "cron",
    "Dates": "dates",
    "Every": "natural.builder",
    "Interval": "interval",
    "NaturalCron": "natural.expression",
    "Never": "never",
    "Run": "zone_effects",
    "next_runs": "zone_effects",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
