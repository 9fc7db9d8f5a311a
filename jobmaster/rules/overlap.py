"""An occurrence that falls due while another of its schedule has begun and not ended (ports.schedules: *turn*)."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from jobmaster.model.job import decode_envelope, with_expiry
from jobmaster.model.schedule import Overlap, Trigger
from jobmaster.model.states import JobStatus
from jobmaster.rules.expiry import own_expiry_us

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Envelope, Start

WAIT_US: Final = 30_000_000
"""How long one waits that is not released before: the process that had to say that the run has ended may be dead."""


class Turn(Enum):
    """What a start is told."""

    TAKEN = auto()
    WAITS = auto()
    SKIPPED = auto()


class Holder(NamedTuple):
    """The other run that has the turn, and has not ended.

    Attributes:
        at_us: its moment.
        is_held: it waits on the master for its next attempt.
        is_extra: somebody ordered it to make up for a moment: no newer one supersedes it.
    """

    at_us: int
    is_held: bool
    is_extra: bool


class Others(NamedTuple):
    """The occurrences of the same schedule that wait for their turn, as one that asks sees them.

    Attributes:
        before: an earlier one of the same lane and priority waits.
        after: a later one waits, which is no backfill.
        is_marked: it waits itself already.
        planned: how many wait that their schedule has made by itself.
    """

    before: bool = False
    after: bool = False
    is_marked: bool = False
    planned: int = 0


class Waiting(NamedTuple):
    """One that waits: its moment, what made it, its job, and where it will be claimed."""

    at_us: int
    trigger: int
    job: JobKey
    lane: str
    priority: int


def asks_for_turn(start: Start) -> bool:
    """Whether a start is one that may have to wait for, or give way to, another occurrence of its schedule."""
    envelope = start.envelope
    return bool(envelope.overlap) and envelope.schedule is not None and start.status is JobStatus.PROCESSING


def bars(*, is_held: bool, is_unroutable: bool, was_requeued: bool) -> bool:
    """Whether a run that had the turn, and is not final, keeps it.

    One that waits for its retry does. One whose task nobody has may wait for ever; and one that a person has set to run
    again has not begun again: neither holds up its schedule.
    """
    return not (is_held and (is_unroutable or was_requeued))


def turn(envelope: Envelope, holder: Holder | None, others: Others, *, limit: int) -> tuple[Turn, bool]:
    """What an occurrence is told, and whether the run that has the turn is to be cancelled.

    `limit`: so many may wait in a queue, besides those that people have ordered. A newer one is never cancelled for an
    older one.
    """
    if envelope.overlap == Overlap.SKIP:
        return (Turn.TAKEN if holder is None else Turn.SKIPPED), False
    if envelope.overlap == Overlap.QUEUE:
        if holder is None and not others.before:
            return Turn.TAKEN, False
        is_free = others.is_marked or envelope.trigger != Trigger.SCHEDULE or others.planned < max(1, limit)
        return (Turn.WAITS if is_free else Turn.SKIPPED), False
    if others.after:
        return Turn.SKIPPED, False
    if holder is None:
        return Turn.TAKEN, False
    if holder.is_extra:
        return Turn.WAITS, False
    if holder.at_us > envelope.scheduled_us:
        return Turn.SKIPPED, False
    return (Turn.TAKEN if holder.is_held else Turn.WAITS), True


def patient(envelope: Envelope, payload: bytes, template: bytes) -> tuple[int | None, bytes]:
    """When one that was told to wait expires, and its envelope with that.

    It was there in time, so that its misfire policy is done with; what its schedule's user said (`template`) counts.
    """
    try:
        own_us = own_expiry_us(decode_envelope(template), envelope.scheduled_us, envelope.created_us, envelope.trigger)
    except (msgspec.DecodeError, UnicodeDecodeError):
        own_us = None
    return own_us, payload if own_us == envelope.expires_us else with_expiry(payload, own_us)


def let_go(overlap: Overlap, waiting: Sequence[Waiting]) -> tuple[list[Waiting], list[Waiting]]:
    """Those that are due now that the turn is free, and those that are skipped. `waiting`: in the order of moments.

    Of a queue the first in each lane and priority: one lane may have no worker, and the turn is one's anyway. Where a
    later one cancels an earlier one: the latest, and backfilled ones as in a queue.
    """
    queue, superseded = list(waiting), []
    if overlap is Overlap.CANCEL_PREVIOUS:
        superseded = [one for one in waiting if one.trigger != Trigger.BACKFILL]
        queue = [one for one in waiting if one.trigger == Trigger.BACKFILL]
    first: dict[tuple[str, int], Waiting] = {}
    for one in queue:
        first.setdefault((one.lane, one.priority), one)
    return [*first.values(), *superseded[-1:]], superseded[:-1]
