"""What becomes of a job whose `expires` has passed."""

from __future__ import annotations

import pytest

from jobmaster.model.job import Envelope
from jobmaster.model.schedule import Trigger
from jobmaster.model.states import JobStatus
from jobmaster.rules.expiry import Expiry, expiry_of

FAILED, MISSED = Expiry(JobStatus.FAILED, "expired"), Expiry(JobStatus.CANCELLED, "missed")


@pytest.mark.parametrize(
    ("trigger", "attempts", "expected"),
    [
        (Trigger.CALL, 0, FAILED),
        (Trigger.CALL, 2, FAILED),
        (Trigger.SCHEDULE, 0, MISSED),
        (Trigger.BACKFILL, 0, MISSED),
        (Trigger.SCHEDULE, 1, None),
    ],
)
def test_an_occurrence_is_missed_unless_it_began(trigger: Trigger, attempts: int, expected: Expiry | None) -> None:
    envelope = Envelope("task", b"", 0, 0, expires_us=1, trigger=trigger.value)
    assert expiry_of(envelope, attempts) == expected
