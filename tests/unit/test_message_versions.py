"""Envelopes of older and newer programs: what is ignored, and what is left to code that knows it."""

from __future__ import annotations

import msgspec
import pytest

from jobmaster.model import versions
from jobmaster.model.job import Envelope, decode_envelope, encode_envelope

PLAIN = Envelope(task="shop.greet", call=b"[]", created_us=1, scheduled_us=2, lane="mail", custom_id="a", is_data=True)


def written(**changes: object) -> bytes:
    return encode_envelope(msgspec.structs.replace(PLAIN, **changes))


def with_more(payload: bytes, *more: object) -> bytes:
    return msgspec.msgpack.encode([*msgspec.msgpack.decode(payload), *more])


def test_fields_that_a_newer_program_added_are_ignored() -> None:
    assert decode_envelope(with_more(written(), "traceparent", {"deep": [1]})) == PLAIN


def test_fields_that_an_older_program_did_not_know_have_their_defaults() -> None:
    older = msgspec.msgpack.encode(msgspec.msgpack.decode(written())[:4])
    assert decode_envelope(older) == Envelope(task="shop.greet", call=b"[]", created_us=1, scheduled_us=2)


@pytest.mark.parametrize("version", [2, 3, 2**40])
def test_a_newer_version_is_of_a_task_that_nobody_has_here(version: int) -> None:
    seen = decode_envelope(with_more(written(version=version), "what older code must not ignore"))
    assert seen.task == f"shop.greet (message version {version})"
    assert msgspec.structs.replace(seen, task=PLAIN.task, version=1) == PLAIN
    assert versions.unparked(seen.task) == PLAIN.task


def test_a_newer_version_that_broke_its_promise_is_seen_all_the_same() -> None:
    fields = msgspec.msgpack.decode(written(version=2))
    fields[3] = "tomorrow"
    assert decode_envelope(msgspec.msgpack.encode(fields)).task == "shop.greet (message version 2)"


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", msgspec.msgpack.encode("text"), msgspec.msgpack.encode([]), msgspec.msgpack.encode({"a": 1}),
     msgspec.msgpack.encode([1] * 18), msgspec.msgpack.encode([1] * 17 + [2]),
     msgspec.msgpack.encode([None] * 17 + [True]),
     msgspec.msgpack.encode(["t", b"", 1, 1, "", 3, False, {}, *[None] * 9, "two"])],
)  # fmt: skip
def test_what_is_no_envelope_of_any_version_stays_unreadable(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_envelope(payload)


def test_the_longest_name_is_parked_under_one_that_every_store_can_keep() -> None:
    assert len(versions.parked_as("t" * 255, 12)) == 255


def test_code_asks_for_what_older_code_has_parked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert versions.names_to_route(["a", "b"]) == ["a", "b"]
    monkeypatch.setattr(versions, "ENVELOPE_VERSION", 3)
    assert versions.names_to_route(["a", "b"]) == [
        "a", "b", *(f"{name} (message version {number})" for number in (2, 3) for name in ("a", "b")),
    ]  # fmt: skip
