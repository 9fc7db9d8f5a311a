"""An occurrence that falls due while an earlier one of its schedule has begun and not ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobmaster.model.states import JobStatus

if TYPE_CHECKING:
    from jobmaster.model.job import Start

WAIT_US: Final = 30_000_000
"""How long one waits that is not released before: the process that had to say that the run has ended may be dead."""


def asks_for_turn(start: Start) -> bool:
    """Whether a start is one that may have to wait for, or give way to, another occurrence of its schedule."""
    envelope = start.envelope
    return bool(envelope.overlap) and envelope.schedule is not None and start.status is JobStatus.PROCESSING
