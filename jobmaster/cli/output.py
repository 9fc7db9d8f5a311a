"""What commands print: tables for people, JSON for programs. Control characters in data never reach the terminal."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum, IntEnum
from typing import Any

import click

from jobmaster.model.states import BucketStatus, JobStatus

_COLOURS = {
    "Succeeded": "green",
    "Failed": "red",
    "Cancelled": "magenta",
    "Processing": "cyan",
    "Lost": "yellow",
    "dead": "red",
    "stopping": "yellow",
    "active": "green",
    "Active": "green",
    "Paused": "yellow",
    "Broken": "red",
    "Canceled": "magenta",
}
_WIDEST = 60
_NAMING = 2
"""So many columns say which row it is, and how it stands."""


def show_json(value: object) -> None:
    """Print a value as JSON: dataclasses as objects, moments as ISO 8601, durations as seconds, enums by name."""
    click.echo(json.dumps(plain(value), indent=2))


def plain(value: Any) -> Any:  # noqa: C901, PLR0911 - one line per kind of value
    """The value in JSON's types."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (JobStatus, BucketStatus)):
        return str(value)
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(inner) for inner in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return str(value)


def show_table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print aligned columns.

    Where they are wider than the terminal the empty ones go; if that is not enough, each row gets lines of its own.

    Args:
        heads: the names of the columns.
        rows: the cells.
        empty: the sentence that is printed when there are no rows.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        click.echo(empty)
        return
    most = terminal_width()
    if most is not None and _width(heads, cells) > most:
        told = [i for i in range(len(heads)) if i < _NAMING or any(row[i] for row in cells)]
        heads, cells = [heads[i] for i in told], [[row[i] for i in told] for row in cells]
        if _width(heads, cells) > most:
            _show_apart(heads, cells, most)
            return
    widths = _widths(heads, cells)
    named = [head.upper().ljust(width) for head, width in zip(heads, widths, strict=True)]
    click.secho("  ".join(named).rstrip(), bold=True)
    for row in cells:
        padded = [_coloured(text, text.ljust(width)) for text, width in zip(row, widths, strict=True)]
        click.echo("  ".join(padded).rstrip())


def _widths(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(head), *(len(row[i]) for row in cells)) for i, head in enumerate(heads)]


def _width(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    """How wide the table is without the blanks behind its last column."""
    *others, last = _widths(heads, cells)
    return sum(width + 2 for width in others) + last


def _show_apart(heads: Sequence[str], rows: Sequence[Sequence[str]], most: int) -> None:
    """Each row as its first two cells, and below them what else it has, with the names of the columns."""
    for first, second, *others in rows:
        click.echo(f"{click.style(first, bold=True)}  {_coloured(second, second)}".rstrip())
        line = ""
        for head, text in zip(heads[2:], others, strict=True):
            told = f"{head}: {text}" if text else ""
            if line and told and len(line) + 3 + len(told) > most:
                click.echo(line)
                line = ""
            if told:
                line = f"{line}   {told}" if line else f"  {told}"
        if line:
            click.echo(line)


def terminal_width() -> int | None:
    """How many columns a line may have, as the terminal or COLUMNS says; None: nobody looks at it as it is."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or os.environ.get("COLUMNS") else None


def show_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print `name: value` lines, aligned; what is None or empty is left out."""
    told = [(name, _cell(value, widest=None)) for name, value in facts if value is not None and value != ""]
    width = max((len(name) for name, _ in told), default=0)
    for name, text in told:
        click.echo(f"{click.style(name.rjust(width), dim=True)}  {_coloured(text, text)}")


def printable(text: str, *, keep_lines: bool = False) -> str:
    """The text with control characters written out, so that data cannot steer the terminal."""
    allowed = "\n\t" if keep_lines else ""
    return "".join(
        char if char.isprintable() or char in allowed else char.encode("unicode_escape").decode() for char in text
    )


def age(moment: datetime | None) -> str:
    """How long ago, or from now, in one unit: `3 s ago`, `in 5 min`."""
    if moment is None:
        return ""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    text = span(abs(seconds))
    return f"{text} ago" if seconds >= 0 else f"in {text}"


def span(seconds: float) -> str:
    """A duration in its largest sensible unit."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def stamp(moment: datetime | None) -> str:
    """A moment in UTC, to the millisecond."""
    return "" if moment is None else moment.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds")


def compact_json(value: object) -> str:
    """The value on one line."""
    return json.dumps(plain(value), ensure_ascii=False)


def _cell(value: object, *, widest: int | None = _WIDEST) -> str:
    if value is None:
        return ""
    if isinstance(value, IntEnum):
        value = value.name.lower()
    text = value if isinstance(value, str) else str(plain(value))
    text = printable(text)
    return text if widest is None or len(text) <= widest else text[: widest - 1] + "…"


def _coloured(word: str, text: str) -> str:
    return click.style(text, fg=_COLOURS[word]) if word in _COLOURS else text


def survival(what: str) -> str:
    """What an accepted job survives, as words after "a job"."""
    words = {"nothing": "may be lost when the server crashes", "unknown": "survives what is not known yet"}
    return words.get(what, f"survives the end of the {what}")
