"""Which schedule is meant: by its id, its name, or the last part of that; and what was probably meant instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final
from uuid import UUID

from msgspec.structs import replace

from jobmaster.errors import NotRegistered
from jobmaster.model.schedule import Schedule, ScheduleKey, ScheduleStatus
from jobmaster.options import as_moment
from jobmaster.ports.schedules import ScheduleQuery
from jobmaster.presenting import schedule_id

if TYPE_CHECKING:
    from jobmaster.gateway import Gateway

_PAGE: Final = 1_000
_NAMED: Final = ScheduleQuery(statuses=tuple(one for one in ScheduleStatus if one is not ScheduleStatus.CANCELED))


async def find(gate: Gateway, reference: str) -> Schedule:
    """The schedule of an id, or the one that bears the name and is not Canceled; of "shop.tick" also by "tick".

    Raises:
        NotRegistered: there is none, or there are several.
        TypeError: it is no text.
    """
    given: object = reference  # callers are not all checked for types
    if not isinstance(given, str):
        what = f"{type(given).__name__}{': write .id or .name behind it' if hasattr(given, 'id') else ''}"
        raise TypeError(f"a schedule is named by its id or its name, a text, not by a {what}")
    try:
        key = ScheduleKey(UUID(reference).bytes)
    except (ValueError, AttributeError):
        found = None
    else:
        found = await gate.store.get_schedule(key)
    return found or await gate.store.find_schedule(reference) or await _by_last_part(gate, reference)


async def _by_last_part(gate: Gateway, reference: str) -> Schedule:
    """The only schedule whose name ends so."""
    ending = await _those_that_say(gate, f".{reference}")
    meant = [name for name in ending if name.rpartition(".")[2] == reference]
    if len(meant) == 1:
        return ending[meant[0]]
    near = meant or await _near(gate, reference)
    if reference in near and (stored := await gate.store.find_schedule(reference)):
        return stored  # somebody has added it since
    hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else "`jobmaster schedules list` shows them all."
    unknown = f"There is no schedule {reference!r}, neither by id nor by name. {hint}"
    raise NotRegistered(("" if meant else await _cancelled(gate, reference)) or unknown)


async def _those_that_say(gate: Gateway, text: str | None) -> dict[str, Schedule]:
    """Schedules by their names, as far as one page goes: of very many not all can be looked at for one question."""
    query = replace(_NAMED, text=text)
    page = await gate.store.list_schedules(query, limit=_PAGE)
    return {one.name: one for one in page.schedules if one.name}


async def _near(gate: Gateway, reference: str) -> list[str]:
    """Names that were probably meant."""
    names = await _those_that_say(gate, None)
    if len(names) >= _PAGE:  # there are more: those that begin or end alike, too
        part = max(2, len(reference) // 2)
        for text in (reference[:part], reference[-part:]):
            names |= await _those_that_say(gate, text)
    return difflib.get_close_matches(reference, names, n=3) or _near_last_parts(reference, names)


async def _cancelled(gate: Gateway, reference: str) -> str:
    """What to say of a name whose schedules were cancelled; empty: none was."""
    query = ScheduleQuery(statuses=(ScheduleStatus.CANCELED,), text=reference)
    page = await gate.store.list_schedules(query, limit=1_000)
    last = max(
        (one for one in page.schedules if one.name == reference), key=lambda one: one.ended_us or 0, default=None
    )
    if last is None:
        return ""
    when = "" if last.ended_us is None else f" at {as_moment(last.ended_us).isoformat(timespec='seconds')}"
    return (
        f"The schedule {reference!r} was cancelled{when}, so its name is free again: add a new one. What it was is "
        f"shown by its id, {schedule_id(last.key)}."
    )


def _near_last_parts(reference: str, names: Iterable[str]) -> list[str]:
    parts = {name.rpartition(".")[2]: name for name in names}
    return [parts[near] for near in difflib.get_close_matches(reference, parts, n=3)]
