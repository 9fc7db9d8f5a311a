"""Schedules in settings files: `[schedules.NAME]`, in pyproject.toml `[tool.jobmaster.schedules.NAME]`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from jobmaster.errors import ConfigurationError
from jobmaster.recurring import NAMES
from jobmaster.settings.readers import read_duration

if TYPE_CHECKING:
    from jobmaster.settings.sources import Given

WHEN: Final = ("every", "cron", "interval", "expression")
"""What says when: NaturalCron text, cron text, a duration, or text in the language that `type` names."""
_OPTIONS: Final = tuple(name for name in NAMES if name != "name")
_KEYS: Final = ("task", "data", "type", *WHEN, *_OPTIONS)
_DURATIONS: Final = ("timeout", "jitter", "misfire_grace")


class FileSchedule(msgspec.Struct, frozen=True):
    """One table: which task, when, with what."""

    task: str
    when: Any
    data: dict[str, Any]
    options: dict[str, Any]
    source: str


def declared_in_files(tables: Mapping[str, Given]) -> Iterator[FileSchedule | str]:
    """The schedules of the files; a text says why a table is none."""
    for name, given in tables.items():
        try:
            yield _read(name, given)
        except ConfigurationError as error:
            yield f"{given.origin}: {error}"


def _read(name: str, given: Given) -> FileSchedule:
    if not isinstance(given.value, Mapping):
        raise ConfigurationError(f'it is no table. Write task = "..." and every = "..." below [schedules.{name}].')
    table = {str(key).replace("-", "_"): value for key, value in given.value.items()}
    for key in table:
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(_KEYS)}."
            raise ConfigurationError(f"a schedule has no {key!r}. {hint}")
    task, data = table.get("task"), table.get("data", {})
    if not isinstance(task, str) or not task:
        raise ConfigurationError('it names no task. Write task = "shop.tasks.report".')
    if not isinstance(data, Mapping):
        raise ConfigurationError('data is no table. Write the task\'s arguments by name: data = {region = "eu"}.')
    options = {key: _option(key, table[key]) for key in _OPTIONS if key in table}
    return FileSchedule(task, _when(table), dict(data), {**options, "name": name}, given.origin)


def _when(table: Mapping[str, Any]) -> Any:
    said = [key for key in WHEN if key in table]
    if len(said) != 1:
        both = f"both {said[0]} and {said[1]} say" if said else "nothing says"
        raise ConfigurationError(
            f'{both} when it fires. Write one of every = "every day at 02:30", cron = "30 2 * * *", interval = "5m", '
            'or type = "..." with expression = "...".'
        )
    key, value = said[0], table[said[0]]
    if ("type" in table) != (key == "expression"):
        raise ConfigurationError("type and expression belong together: the language, and the text in it.")
    if key == "interval":
        return timedelta(seconds=_seconds(key, value))
    if not isinstance(value, str):
        raise ConfigurationError(f"{key} is {value!r}, but it is text.")
    if key == "every":
        return value
    return (str(table["type"]), value) if key == "expression" else ("Cron", value)


def _option(key: str, value: Any) -> Any:
    return _seconds(key, value) if key in _DURATIONS else value


def _seconds(key: str, value: Any) -> float:
    try:
        return float(read_duration(value))
    except ValueError as error:
        raise ConfigurationError(f"{key} is {value!r}, but must be {error}.") from None
