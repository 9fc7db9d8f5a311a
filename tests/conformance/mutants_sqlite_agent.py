"""SQLite stores with one guard removed from the verbs of an agent: messages, their order, their removal."""

from __future__ import annotations

from typing import Any

from jobmaster.stores.sql.sqlite import accept, fencing, finish, read
from jobmaster.stores.sql.sqlite.store import SqliteStore
from tests.conformance.mutants import Mutant, instead, nothing, text
from tests.conformance.mutants_sqlite_jobs import sqlite


async def removed_first(self: SqliteStore, fence: Any, outcomes: Any) -> Any:
    await self.remove(fence, [outcome.seq for outcome in outcomes if outcome.seq is not None])
    return await self._write(lambda tx: finish.settle(tx, fence, outcomes))


SQLITE_AGENT = [
    sqlite(
        "R1 open buckets",
        "test_accepting.test_an_unknown_bucket_refuses_everything",
        instead(accept, "require_open", nothing),
    ),
    sqlite(
        "R1 closed buckets",
        "test_accepting.test_a_closed_bucket_refuses_messages_and_stores_none",
        instead(accept, "require_open", nothing),
    ),
    sqlite("R1 key", "test_accepting.test_a_repeated_push_stores_one_message", instead(accept, "ONCE", "")),
    sqlite(
        "R13 finish first",
        "test_both_halves.test_a_fenced_batch_removes_no_message",
        instead(SqliteStore, "settle", removed_first),
        ("sqlite",),
    ),
    Mutant(
        "R13 finish first",
        "test_both_halves.test_a_fenced_batch_removes_no_message",
        ("sqlite-split",),
        removed=frozenset({"early_ack"}),
    ),
    sqlite(
        "R13 by message",
        "test_reading.test_removing_one_copy_leaves_the_copy_in_another_bucket",
        text(
            read,
            "REMOVE",
            "WHERE bucket = ? AND seq IN (SELECT value FROM json_each(?))",
            "WHERE job_id IN (SELECT job_id FROM jm_message"
            " WHERE bucket = ? AND seq IN (SELECT value FROM json_each(?)))",
        ),
    ),
    sqlite(
        "R15'a 1 the reader's epoch",
        "test_reading.test_a_reader_of_an_older_epoch_is_fenced",
        instead(read, "require_epoch", nothing),
    ),
    sqlite(
        "R15'a 1 the fence's epoch",
        "test_agent_ownership.test_a_fence_of_an_older_epoch_changes_nothing",
        instead(fencing, "require_epoch", nothing),
    ),
    sqlite(
        "R15'a 1 the epoch is kept",
        "test_agent_ownership.test_a_late_close_of_the_old_owner_does_not_shut_the_adopters_bucket",
        text(fencing, "TAKE_EPOCH", "epoch = excluded.epoch, ", ""),
    ),
    sqlite(
        "R16 closing",
        "test_agent_ownership.test_a_drainer_reads_everything_and_shuts_the_bucket",
        text(fencing, "TAKE_EPOCH", "closing = excluded.closing", "closing = 0"),
    ),
    sqlite(
        "R16 the drainer's epoch",
        "test_agent_ownership.test_a_late_drainer_does_not_shut_the_bucket_of_its_next_owner",
        text(fencing, "AGENT_BUCKET", "WHERE", "WHERE 0 AND"),
    ),
    sqlite(
        "R20 no late messages",
        "test_agent_ownership.test_messages_that_are_not_due_are_not_handed_over",
        text(fencing, "NEWEST", "due_us <= ?3", "?3 > 0"),
    ),
    sqlite(
        "R20 beyond the cursor",
        "test_agent_ownership.test_what_its_owner_has_read_is_not_given_away",
        text(fencing, "NEWEST", "seq > ?2", "seq > 0 AND ?2 > 0"),
    ),
    sqlite(
        "R24 only empty buckets close",
        "test_agent_ownership.test_a_bucket_with_messages_stays_open",
        instead(fencing, "has_messages", lambda *_: False),
    ),
    sqlite(
        "a standalone read looks no further than the window",
        "test_reading.test_a_message_that_can_still_be_cancelled_for_certain_is_read_by_nobody",
        instead(read, "_ahead", lambda _, asked: asked),
        ("sqlite",),
    ),
]
