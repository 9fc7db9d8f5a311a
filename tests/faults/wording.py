"""What campaigns counted and measured, in words: for the terminal and for docs/guarantees.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

COUNTS: Final = ("accepted", "lost", "doubled", "extra_runs")
"""What has a column of its own on the page."""
_KNOWN: Final = {"campaign", "store", "struck", "rows", "name", "defaults", "recoveries", *COUNTS}


def in_words(value: Any) -> str:
    """`{"p50": 1.5, "n": 1000}` as `p50 1.5, n 1,000`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {in_words(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(in_words, value)) or "none"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def faults(line: Mapping[str, Any]) -> str:
    """What was done to the processes, and how often."""
    return ", ".join(f"{number} {kind}" for kind, number in line.get("struck", {}).items())


def besides(line: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a campaign measured: names and values."""
    for name, value in line.items():
        if name not in _KNOWN:
            yield name.replace("_", " "), in_words(value)


def told(line: Mapping[str, Any]) -> str:
    """A campaign's result, a line for each thing."""
    shown = [("faults", faults(line))]
    shown += [(count.replace("_", " "), in_words(line[count])) for count in COUNTS if count in line]
    shown += besides(line)
    return "\n".join([f"{line['campaign']} on {line['store']}", *(f"  {name}: {text}" for name, text in shown)])
