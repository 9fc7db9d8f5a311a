"""Whose turn it is, and when one that waits expires: the rules that every store asks."""

from __future__ import annotations

import msgspec
import pytest

from jobmaster.model.ids import JobKey
from jobmaster.model.job import Envelope, decode_envelope, encode_envelope, with_expiry
from jobmaster.model.schedule import Overlap, Trigger
from jobmaster.rules.expiry import own_expiry_us
from jobmaster.rules.overlap import Holder, Others, Turn, Waiting, let_go, patient, turn


def asking(overlap: Overlap, trigger: Trigger = Trigger.SCHEDULE) -> Envelope:
    return Envelope("task", b"", 0, 100, trigger=trigger.value, overlap=overlap.value, expires_us=160)


OLDER, NEWER = Holder(1, is_held=False, is_extra=False), Holder(200, is_held=False, is_extra=False)


@pytest.mark.parametrize(
    ("holder", "others", "told", "cancels"),
    [
        (None, Others(), Turn.TAKEN, False),
        (OLDER, Others(), Turn.WAITS, True),
        (OLDER._replace(is_held=True), Others(), Turn.TAKEN, True),
        (OLDER._replace(is_extra=True), Others(), Turn.WAITS, False),
        (NEWER, Others(), Turn.SKIPPED, False),
        (None, Others(after=True), Turn.SKIPPED, False),
        (OLDER, Others(after=True), Turn.SKIPPED, False),
        (None, Others(before=True, planned=1000), Turn.TAKEN, False),
    ],
)
def test_a_newer_one_cancels_an_older_one(holder: Holder | None, others: Others, told: Turn, *, cancels: bool) -> None:
    assert turn(asking(Overlap.CANCEL_PREVIOUS), holder, others, limit=1) == (told, cancels)


@pytest.mark.parametrize(
    ("trigger", "others", "told"),
    [
        (Trigger.SCHEDULE, Others(planned=1), Turn.WAITS),
        (Trigger.SCHEDULE, Others(planned=2), Turn.SKIPPED),
        (Trigger.SCHEDULE, Others(planned=2, is_marked=True), Turn.WAITS),
        (Trigger.RUN_NOW, Others(planned=2), Turn.WAITS),
        (Trigger.BACKFILL, Others(planned=2), Turn.WAITS),
    ],
)
def test_a_queue_has_an_end(trigger: Trigger, others: Others, told: Turn) -> None:
    assert turn(asking(Overlap.QUEUE, trigger), OLDER, others, limit=2) == (told, False)
    assert turn(asking(Overlap.QUEUE, trigger), None, others, limit=2) == (Turn.TAKEN, False)
    assert turn(asking(Overlap.QUEUE, trigger), None, others._replace(before=True), limit=2) == (told, False)


def waiting(at_us: int, trigger: Trigger = Trigger.SCHEDULE, lane: str = "") -> Waiting:
    return Waiting(at_us, trigger.value, JobKey(at_us.to_bytes(16, "big")), lane, 3)


def test_who_is_let_go() -> None:
    old, other, last = waiting(1, Trigger.BACKFILL), waiting(2, lane="b"), waiting(3)
    assert let_go(Overlap.QUEUE, [old, other, last]) == ([old, other], [])
    assert let_go(Overlap.CANCEL_PREVIOUS, [old, other, last]) == ([old, last], [other])
    assert let_go(Overlap.CANCEL_PREVIOUS, []) == ([], [])


@pytest.mark.parametrize(
    ("trigger", "expires_us"), [(Trigger.SCHEDULE, 107), (Trigger.RUN_NOW, 507), (Trigger.BACKFILL, 507)]
)
def test_the_users_expiry_counts_from_its_moment_or_from_when_it_was_ordered(trigger: Trigger, expires_us: int) -> None:
    template = Envelope("task", b"", 0, 50, expires_us=57)
    assert own_expiry_us(template, 100, 500, trigger) == expires_us
    assert own_expiry_us(msgspec.structs.replace(template, expires_us=None), 100, 500, trigger) is None


def test_one_that_waits_is_rid_of_its_misfire_policy() -> None:
    envelope = asking(Overlap.QUEUE)
    payload = encode_envelope(envelope)
    for template in (b"\xc1", encode_envelope(Envelope("task", b"", 0, 0))):
        expires_us, rewritten = patient(envelope, payload, template)
        assert expires_us is None
        assert decode_envelope(rewritten) == msgspec.structs.replace(envelope, expires_us=None)
    same = encode_envelope(Envelope("task", b"", 0, 0, expires_us=60))
    assert patient(envelope, payload, same) == (160, payload)


def test_what_newer_code_added_to_an_envelope_survives_another_expiry() -> None:
    fields = [*msgspec.msgpack.decode(encode_envelope(asking(Overlap.QUEUE)), type=list), "new"]
    rewritten = msgspec.msgpack.decode(with_expiry(msgspec.msgpack.encode(fields), 7), type=list)
    assert rewritten[-1] == "new"
    assert decode_envelope(msgspec.msgpack.encode(rewritten)).expires_us == 7
