"""Jobs as the arrays of one statement. A column in which all of a batch have the same value is given once.

Every array costs client and server about a quarter of a microsecond a job each, more than anything else on the way.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from jobmaster.stores.sql.postgresql.rows import TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobmaster.model.job import Envelope, Outcome, Start

J = TypeVar("J", "Outcome", "Start")

# What a column holds where all have the same: an expression, or None for a parameter of its own.
KIND: dict[str, str | None] = {
    "gen": None, "lane": None, "priority": None, "at_most_once": None, "trigger_kind": None, "expires_us": "NULL",
    "custom_id": "NULL",
}  # fmt: skip
"""Columns that say what kind of job it is, mostly the same in one bucket."""

by_key = attrgetter("key")


class Placed(NamedTuple):
    """Columns of an insert, and where their values come from."""

    names: str
    values: str
    arrays: str
    """The arguments of unnest, and what its columns are called."""


def placed(each: Sequence[str], groups: Sequence[tuple[Mapping[str, str | None], bool]], *, after: int) -> Placed:
    """Number the parameters of an insert into jm_job.

    Args:
        each: columns that are always arrays.
        groups: further columns, and whether all jobs of the batch have the same in them.
        after: how many parameters come before.
    """
    sources: dict[str, str] = {}
    arrays: dict[str, str] = {}
    number = after
    for name in each:
        number += 1
        arrays[name] = f"${number}::{TYPES[name]}[]"
    for group, same in groups:
        for name, fixed in group.items():
            if same and fixed is not None:
                sources[name] = f"{fixed}::{TYPES[name]}"
                continue
            number += 1
            if same:
                sources[name] = f"${number}::{TYPES[name]}"
            else:
                arrays[name] = f"${number}::{TYPES[name]}[]"
    sources |= {name: f"u.{name}" for name in arrays}
    return Placed(
        ", ".join(sources),
        ", ".join(sources.values()),
        f"unnest({', '.join(arrays.values())}) AS u({', '.join(arrays)})",
    )


def alike(column: Sequence[Any]) -> bool:
    """Whether all values are the same."""
    return column.count(column[0]) == len(column)


def kinds(jobs: Sequence[J], envelopes: Sequence[Envelope]) -> tuple[bool, list[Any]]:
    """Whether all are of one kind, and the values of KIND: each once, or as arrays."""
    gens = [job.gen for job in jobs]
    lanes = [envelope.lane for envelope in envelopes]
    priorities = [envelope.priority for envelope in envelopes]
    once = [envelope.at_most_once for envelope in envelopes]
    triggers = [envelope.trigger for envelope in envelopes]
    expires = [envelope.expires_us for envelope in envelopes]
    custom = [envelope.custom_id for envelope in envelopes]
    count = len(envelopes)
    varying: list[list[Any]] = [gens, lanes, priorities, once, triggers]
    if expires.count(None) == custom.count(None) == count and all(map(alike, varying)):
        return True, [column[0] for column in varying]
    return False, [*varying, expires, custom]
