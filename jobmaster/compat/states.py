"""Celery's words for where a task is, and the JobMaster statuses that they stand for."""

from __future__ import annotations

from typing import Final

from jobmaster.model.states import JobStatus

PENDING: Final = "PENDING"
RECEIVED: Final = "RECEIVED"
STARTED: Final = "STARTED"
SUCCESS: Final = "SUCCESS"
FAILURE: Final = "FAILURE"
REVOKED: Final = "REVOKED"
REJECTED: Final = "REJECTED"
RETRY: Final = "RETRY"
IGNORED: Final = "IGNORED"

READY_STATES: Final = frozenset({SUCCESS, FAILURE, REVOKED})
UNREADY_STATES: Final = frozenset({PENDING, RECEIVED, STARTED, REJECTED, RETRY})
EXCEPTION_STATES: Final = frozenset({RETRY, FAILURE, REVOKED})
PROPAGATE_STATES: Final = frozenset({FAILURE, REVOKED})
ALL_STATES: Final = frozenset({PENDING, RECEIVED, STARTED, SUCCESS, FAILURE, RETRY, REVOKED})

STATE_OF: Final = {
    JobStatus.SAVE_PENDING: PENDING,
    JobStatus.HELD_ON_MASTER: PENDING,
    JobStatus.ASSIGNED_TO_BUCKET: PENDING,
    JobStatus.QUEUED: PENDING,
    JobStatus.PROCESSING: STARTED,
    JobStatus.SUCCEEDED: SUCCESS,
    JobStatus.FAILED: FAILURE,
    JobStatus.CANCELLED: REVOKED,
}
"""The state of a job that has not failed yet, and has not expired: those are RETRY and REVOKED."""
