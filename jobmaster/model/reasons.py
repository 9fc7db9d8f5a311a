"""Why a job is as it is, where its status alone does not say: the words of the column `reason`.

A run may leave words of its own (`Reject("no stock")`); these are those that JobMaster writes. SQL texts repeat them,
because an index can only be built on a literal.
"""

from __future__ import annotations

from typing import Final

EXPIRED: Final = "expired"
"""Failed: it had not started when its `expires` came."""
UNROUTABLE: Final = "unroutable"
"""HeldOnMaster: no worker that looked at it knows its task. Looked at again when one registers the name."""
UNREADABLE: Final = "unreadable"
"""Failed: its bytes are no envelope."""
WORKER_LOST: Final = "worker lost"
"""Failed: its worker vanished while it ran, and it may not run again. Of an attempt: it was recovered."""
TAKEN_BACK: Final = "taken back"
"""Of an attempt: its worker lived on and did not have it any more (a lost answer, a lease that had ended)."""
HANDED_BACK: Final = "handed back"
"""Of an attempt: its worker stopped, and it was not spent."""
QUARANTINED: Final = "quarantined"
"""Failed: its process died whenever it ran (`max_recoveries`)."""
TIMED_OUT: Final = "timed out"
"""Failed: its hard limit passed, and no retry was left."""
INTERRUPTED: Final = "interrupted"
"""Failed: its run was stopped from inside, with nobody having cancelled the job."""
NOT_STORABLE: Final = "its outcome could not be stored"
"""Failed: no store took what the run had returned."""
REJECTED: Final = "rejected"
"""Failed: the task raised `Reject` without words of its own."""
IGNORED: Final = "ignored"
"""Succeeded, without a result: the task raised `Ignore`."""
RESULT_EXPIRED: Final = "result expired"
"""Succeeded, and its result was cleared because `keep_result` had passed."""
MISSED: Final = "missed"
"""Cancelled: an occurrence of a schedule that nobody started in time (its misfire policy)."""
OVERLAP: Final = "overlap"
"""An occurrence met an earlier one that had not ended. Cancelled: it was skipped. HeldOnMaster: it waits for that."""
SCHEDULE_CHANGED: Final = "schedule changed"
"""Cancelled: an occurrence that an owner had already when its schedule was paused, edited or ended."""
