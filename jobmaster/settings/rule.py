"""The rule of one setting: how it is read, its limits with their reason, and what people read about it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from jobmaster.model.durations import duration_text
from jobmaster.settings import readers

SECONDS = "s"


class Rule(NamedTuple):
    """How one setting is read, its limits with their reason, and what people read about it."""

    read: Callable[[object], object]
    note: str
    unit: str = ""
    least: float | None = None
    most: float | None = None
    why: str = ""
    none: str = ""
    """What None (in text: "none") means; empty where None is no value."""
    choices: tuple[str, ...] = ()
    agreed: bool = False
    """All processes of the cluster must have the same value: it is kept in the master."""

    @property
    def limits(self) -> str:
        """The limits as people read them: `10s to 1d`, `agent or master`, or nothing."""
        if self.choices:
            return " or ".join(self.choices)
        if self.least is None or self.most is None:
            return ""
        return f"{self.shown(self.least)} to {self.shown(self.most)}"

    def shown(self, value: object) -> str:
        """A value as it may be written in a file."""
        match value:
            case None | bool():
                return str(value).lower()
            case int() | float() if self.unit == SECONDS:
                return duration_text(value)
            case Enum():
                return value.name.lower()
            case float():
                return f"{value:g}"
            case tuple():
                return ", ".join(str(part) for part in value)
            case _:
                return str(value)


def duration_rule(note: str, least: float, most: float, why: str, *, none: str = "", agreed: bool = False) -> Rule:
    """A duration from `least` to `most` seconds."""
    return Rule(readers.read_duration, note, unit=SECONDS, least=least, most=most, why=why, none=none, agreed=agreed)


def choice_rule(choices: type[Enum], note: str) -> Rule:
    """One member of an enum, by its name."""
    return Rule(readers.choice_of(choices), note, choices=tuple(name.lower() for name in choices.__members__))


def count_rule(note: str, least: int, most: int, why: str, *, unit: str = "", none: str = "") -> Rule:
    """A whole number from `least` to `most`."""
    return Rule(readers.read_count, note, unit=unit, least=least, most=most, why=why, none=none)
