"""Schedules in settings files: `[schedules.NAME]`, in pyproject.toml `[tool.jobmaster.schedules.NAME]`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from jobmaster.errors import ConfigurationError, ScheduleSyntaxError
from jobmaster.recurring import ELSEWHERE, NAMES
from jobmaster.settings.readers import read_duration

if TYPE_CHECKING:
    from jobmaster.settings.sources import Given

WHEN: Final = ("every", "cron", "interval", "expression")
"""What says when: NaturalCron text, cron text, a duration, or text in the language that `type` names."""
_OPTIONS: Final = tuple(name for name in NAMES if name != "name")
_KEYS: Final = ("task", "data", "type", *WHEN, *_OPTIONS)
_DURATIONS: Final = ("timeout", "jitter", "misfire_grace")
_MOMENTS: Final = ("start_after", "end_before")
_ELSEWHERE: Final = {
    **ELSEWHERE,
    **dict.fromkeys(("args", "kwargs"), 'data: data = {region = "eu"}'),
    **dict.fromkeys(("name", "id", "replace_existing"), "the name of the table, [schedules.NAME]"),
}
_CRON: Final = re.compile(r"(?i)[0-9*?h]\S*(\s+\S+){4,6}")


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
            raise ConfigurationError(f"a schedule has no {key!r}. {_meant(key)}")
    task, data = table.get("task"), table.get("data", {})
    if not isinstance(task, str) or not task:
        raise ConfigurationError('it names no task. Write task = "shop.tasks.report".')
    if not isinstance(data, Mapping):
        raise ConfigurationError('data is no table. Write the task\'s arguments by name: data = {region = "eu"}.')
    options = {key: _option(key, table[key]) for key in _OPTIONS if key in table}
    return FileSchedule(task, _when(table), dict(data), {**options, "name": name}, given.origin)


def _meant(key: str) -> str:
    """What was probably meant by a key that does not exist."""
    if key in _ELSEWHERE:
        return f"Here it is {_ELSEWHERE[key]}."
    close = difflib.get_close_matches(key, _KEYS, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"There are {', '.join(_KEYS)}."


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
        if _is_cron(value):
            raise ConfigurationError(f'every is {value!r}, which is cron. Write cron = "{value}".')
        return value
    return (str(table["type"]), value) if key == "expression" else ("Cron", value)


def _is_cron(text: str) -> bool:
    if not _CRON.fullmatch(text.strip()):
        return False
    from jobmaster.schedules import Cron

    try:
        Cron(text)
    except ScheduleSyntaxError:
        return False
    return True


def _option(key: str, value: Any) -> Any:
    if key in _MOMENTS and not (isinstance(value, datetime) and value.tzinfo):
        raise ConfigurationError(
            f"{key} is {value}, but it is a moment with a time zone. Write {key} = 2026-12-31T18:00:00+01:00, or with "
            "a Z at its end."
        )
    return _seconds(key, value) if key in _DURATIONS else value


def _seconds(key: str, value: Any) -> float:
    try:
        return float(read_duration(value))
    except ValueError as error:
        raise ConfigurationError(f"{key} is {value!r}, but must be {error}.") from None
