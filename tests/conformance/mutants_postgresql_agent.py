"""PostgreSQL stores with one guard removed from the verbs of an agent."""

from __future__ import annotations

from typing import Any

from jobmaster.stores.sql.postgresql import accept, agent_verbs, fencing, read
from tests.conformance.mutants import Mutant, Patch, both, instead, nothing, text

BOTH = ("postgresql", "postgresql-split")
STANDALONE, SPLIT = ("postgresql",), ("postgresql-split",)

ACCEPT = "test_accepting."
READ = "test_reading."
OWNER = "test_agent_ownership."
LOCKS = "test_row_locks."
HOSTILE = "test_hostile_data."


def postgresql(guard: str, noticed_by: str, patch: Patch, adapters: tuple[str, ...] = BOTH, **arguments: Any) -> Mutant:
    return Mutant(guard, noticed_by, adapters, patch=patch, arguments=arguments)


def pushing(old: str, new: str, *, names: tuple[str, ...] = ("FAST", "ONCE")) -> Patch:
    """The statements of a push changed."""
    return both(*(text(accept, name, old, new) for name in names))


ALL = ("FAST", "ONCE", "SINGLE")


async def _no_messages(*_: Any) -> bool:
    return False


PUSH = [
    postgresql(
        "R1 a bucket that is closing takes nothing",
        OWNER + "test_a_drainer_reads_everything_and_shuts_the_bucket",
        pushing("AND closing = 0", "", names=ALL),
    ),
    postgresql(
        "R1 a push holds the bucket",
        LOCKS + "test_a_close_waits_for_inserts_that_are_under_way",
        pushing("AND closing = 0 FOR SHARE", "AND closing = 0", names=ALL),
    ),
    postgresql(
        "R1 a repeated push is stored once",
        ACCEPT + "test_a_repeated_push_stores_one_message",
        text(accept, "ONCE", "ON CONFLICT (job_id, gen, bucket) DO NOTHING", ""),
    ),
    postgresql(
        "R1 one job that was pushed before is stored once",
        ACCEPT + "test_the_same_push_twice_at_once_stores_one_message",
        text(accept, "ONCE", "ON CONFLICT (job_id, gen, bucket) DO NOTHING", ""),
    ),
    postgresql(
        "R3 verify travels",
        ACCEPT + "test_the_mark_of_a_repeated_push_travels_with_the_message",
        pushing("CASE WHEN verify THEN 1", "CASE WHEN verify THEN 0"),
    ),
    postgresql(
        "a delay counts from the store's clock",
        ACCEPT + "test_a_delay_is_added_to_the_stores_clock",
        pushing("coalesce(u.delay_us, 0)", "coalesce(u.delay_us * 0, 0)"),
    ),
    postgresql(
        "what is due later is marked",
        READ + "test_what_is_due_later_is_left_and_found_with_the_cursor_of_then",
        pushing("WHEN due_us > now_us THEN 1", "WHEN due_us > now_us THEN 0"),
    ),
    postgresql(
        "the edge of push",
        HOSTILE + "test_a_number_that_not_every_store_keeps_is_refused",
        instead(agent_verbs, "check_jobs", nothing),
        times={"due_us": -1},
    ),
]

READS = [
    postgresql(
        "a read is cut at its limit",
        READ + "test_many_jobs_of_one_due_time_come_in_batches_and_none_twice",
        text(read, "READ", "LIMIT $8::bigint - (SELECT count(*) FROM due)", "LIMIT $8::bigint"),
    ),
    postgresql(
        "a cut read says where in a due time",
        READ + "test_many_jobs_of_one_due_time_come_in_batches_and_none_twice",
        text(read, "READ", "cut.due_us AS cut_us, cut.seq AS cut_seq", "cut.due_us AS cut_us, cut.seq * 0 AS cut_seq"),
    ),
    postgresql(
        "what fell due is below the cursor",
        READ + "test_jobs_that_become_due_between_batches_are_all_found",
        text(read, "READ", "seq + 0 <= $4", "seq + 0 <= $4 AND false"),
    ),
    postgresql(
        "a standalone read looks no further than the window",
        READ + "test_a_message_that_can_still_be_cancelled_for_certain_is_read_by_nobody",
        instead(read, "ahead", lambda _, asked: asked),
        STANDALONE,
    ),
    postgresql(
        "R9 a full read begins at the start",
        READ + "test_a_full_read_below_the_cursor_finds_what_is_not_in_memory",
        text(read, "BELOW", "seq > $4 AND seq <= $5", "seq > $4 AND seq <= $5 AND seq = $5"),
    ),
    postgresql(
        "R13 removal by message",
        READ + "test_removing_one_copy_leaves_the_copy_in_another_bucket",
        text(
            read,
            "REMOVE",
            "seq = ANY($1::bigint[])",
            "job_id IN (SELECT job_id FROM jm_message WHERE seq = ANY($1::bigint[]))",
        ),
    ),
    postgresql(
        "R18 orphans by their messages",
        OWNER + "test_buckets_that_the_master_does_not_know_are_found",
        text(read, "ORPHANS", "SELECT id FROM jm_agent_bucket", "SELECT id FROM jm_agent_bucket WHERE false"),
        SPLIT,
    ),
]

OWNERSHIP = [
    postgresql(
        "R15'a 1 the reader's epoch",
        READ + "test_a_reader_of_an_older_epoch_is_fenced",
        instead(read, "require_epoch", nothing),
    ),
    postgresql(
        "R15'a 1 the fence's epoch",
        OWNER + "test_a_fence_of_an_older_epoch_changes_nothing",
        text(fencing, "HELD", "SELECT epoch,", "SELECT 0 * epoch,"),
    ),
    postgresql(
        "R15'a 1 the epoch is kept",
        OWNER + "test_a_late_close_of_the_old_owner_does_not_shut_the_adopters_bucket",
        text(fencing, "TAKE_EPOCH", "SET epoch = $2", "SET epoch = epoch + 0 * $2"),
    ),
    postgresql(
        "R15'a 1 a fence opens",
        OWNER + "test_a_fence_again_at_the_same_epoch_succeeds_and_opens_the_bucket",
        text(fencing, "TAKE_EPOCH", "closing = $3", "closing = greatest(closing, $3)"),
        STANDALONE,
    ),
    postgresql(
        "R15'a 1 a fence waits for inserts",
        LOCKS + "test_a_fence_waits_for_inserts_and_marks_them",
        both(
            text(fencing, "HELD", " FOR UPDATE", ""),
            text(fencing, "TAKE_EPOCH", "WHERE id = $1", "WHERE id = $1 AND epoch <> $2"),
        ),
    ),
    postgresql(
        "R16 closing",
        OWNER + "test_a_drainer_reads_everything_and_shuts_the_bucket",
        text(fencing, "TAKE_EPOCH", "closing = $3", "closing = 0 * $3"),
    ),
    postgresql(
        "R16 the drainer's epoch",
        OWNER + "test_a_late_drainer_does_not_shut_the_bucket_of_its_next_owner",
        text(fencing, "HELD", "SELECT epoch,", "SELECT 0 * epoch,"),
    ),
    postgresql(
        "R20 no late messages",
        OWNER + "test_messages_that_are_not_due_are_not_handed_over",
        text(fencing, "MOVE", "due_us <= $5::bigint + $6::bigint", "$5::bigint + $6::bigint > 0"),
    ),
    postgresql(
        "R20 beyond the cursor",
        OWNER + "test_what_its_owner_has_read_is_not_given_away",
        text(fencing, "MOVE", "seq > $1 AND", "seq > ($1 >> 41 << 41) AND"),
    ),
    postgresql(
        "R20 what an earlier life may have read",
        OWNER + "test_messages_that_an_earlier_life_may_have_read_arrive_marked",
        text(fencing, "MOVE", "seq <= $7::bigint", "seq <= 0 * $7::bigint"),
    ),
    postgresql(
        "R20 in order",
        OWNER + "test_the_newest_unread_messages_go_to_a_hungry_owner",
        text(fencing, "MOVE", "ORDER BY seq) AS in_order", "ORDER BY seq DESC) AS in_order"),
    ),
    postgresql(
        "R24 only empty buckets close",
        OWNER + "test_a_bucket_with_messages_stays_open",
        instead(fencing, "has_messages", _no_messages),
    ),
    postgresql(
        "R24 a close waits for inserts",
        LOCKS + "test_a_close_waits_for_inserts_that_are_under_way",
        text(fencing, "HELD", " FOR UPDATE", ""),
    ),
]

POSTGRESQL_AGENT = [*PUSH, *READS, *OWNERSHIP]
