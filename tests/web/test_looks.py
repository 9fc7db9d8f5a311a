"""Durations, moments, ids and tracebacks as people read them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobmaster.web.looks import ago_text, duration_text, payload_text, short_id
from jobmaster.web.tracebacks import parts_of
from tests.web.cluster import NOW, TRACEBACK


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(0), "0 ms"),
        (timedelta(milliseconds=84), "84 ms"),
        (timedelta(seconds=3.24), "3.2 s"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(minutes=4, seconds=5), "4 min 5 s"),
        (timedelta(hours=3), "3 h"),
        (timedelta(days=2, hours=3, minutes=9), "2 d 3 h"),
        (timedelta(days=2, minutes=9), "2 d"),
        (timedelta(seconds=-1), "–"),
        (None, "–"),
    ],
)
def test_a_duration_has_at_most_two_units(length, text):
    assert duration_text(length) == text


@pytest.mark.parametrize(
    ("distance", "text"),
    [
        (timedelta(milliseconds=300), "just now"),
        (timedelta(seconds=5), "5 s ago"),
        (timedelta(minutes=3, seconds=9), "3 min ago"),
        (timedelta(hours=-2), "in 2 h"),
    ],
)
def test_a_moment_is_told_by_its_distance(distance, text):
    assert ago_text(NOW - distance, NOW) == text


def test_ids_keep_the_part_that_differs():
    assert short_id("01890000-0000-7000-8000-0123456789ab") == "…0123456789ab"
    assert short_id("receipt-7") == "receipt-7"
    assert short_id("x" * 40) == "x" * 28 + "…"


def test_a_payload_that_refers_to_itself_is_still_text():
    loop: list[object] = []
    loop.append(loop)

    assert payload_text(loop) == "[[...]]"


def test_a_short_payload_stands_on_one_line_and_a_long_one_on_many():
    assert payload_text({"order_id": 7}) == '{"order_id": 7}'
    assert payload_text({"name": "x" * 60}).count("\n") == 2


def test_a_traceback_falls_into_headline_own_frames_library_frames_and_exception():
    head, own, library, tail = parts_of(TRACEBACK)

    assert head.text == "Traceback (most recent call last):"
    assert [(frame.file, frame.function, frame.code) for frame in own.frames] == [
        ("/srv/shop/mail.py", "receipt", "send(order)")
    ]
    assert library.is_library
    assert not own.is_library
    assert tail.text.startswith("ConnectionRefusedError")


@pytest.mark.parametrize("text", ["", "no traceback at all", '  File "x", line'])
def test_other_text_stays_text(text):
    assert "\n".join(part.text for part in parts_of(text)) == text
