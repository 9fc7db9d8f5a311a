"""SQLite stores with one guard removed: a statement changed, or a function of the dialect's modules replaced."""

from __future__ import annotations

from typing import Any

from jobmaster.stores.sql.sqlite import (
    accept,
    agent_verbs,
    buckets,
    cancel,
    claim,
    cluster,
    commands,
    fencing,
    finish,
    leases,
    master_verbs,
    read,
    recover,
    rows,
    start,
    testimony,
    upkeep,
)
from jobmaster.stores.sql.sqlite.owning import Owned, own
from jobmaster.stores.sql.sqlite.store import SqliteStore
from tests.conformance.adapters import AGENT
from tests.conformance.mutants import Mutant, Patch, instead, nothing, text

BOTH_SQLITE = ("sqlite", "sqlite-split")


def sqlite(
    guard: str, noticed_by: str, patch: Patch, adapters: tuple[str, ...] = BOTH_SQLITE, **arguments: Any
) -> Mutant:
    return Mutant(guard, noticed_by, adapters, patch=patch, arguments=arguments)


def unowned(*_: Any, **__: Any) -> Owned:
    """own(b) that never says Fenced."""
    return Owned(AGENT, "", 3, 1)


def any_status(transaction: Any, fence: Any, *, statuses: tuple[int, ...] = ()) -> Owned:
    """own(b) in every status of the bucket."""
    return own(transaction, fence)


def nobody(*_: Any, **__: Any) -> set[bytes]:
    return set()


async def removed_first(self: SqliteStore, fence: Any, outcomes: Any) -> Any:
    await self.remove(fence, [outcome.seq for outcome in outcomes if outcome.seq is not None])
    return await self._write(lambda tx: finish.settle(tx, fence, outcomes))


def counting_all(row: Any, *, blame: str | None, **known: Any) -> Any:
    return real_after_loss(row, blame=blame or "nobody saw it run", **known)


real_after_loss = recover.after_loss


def named_anywhere(transaction: Any, worker: int, said: Any, _buckets: Any) -> None:
    testimony.recover_named(transaction, worker, said, range(1_000))


def unless_heard(row: Any, blames: Any, _living: Any) -> str | None:
    return blames[row.key].reason if row.key in blames else None


OWN = [  # R12 own(b), verb by verb
    sqlite("own(b) of finish", "test_finishes.test_a_stale_fence_cannot_finish_a_job", instead(finish, "own", unowned)),
    sqlite(
        "own(b) of release",
        "test_finishes.test_a_release_never_touches_a_run_or_what_has_moved_on",
        instead(finish, "own", unowned),
    ),
    sqlite(
        "own(b) of hand_back",
        "test_both_halves.test_who_lost_the_bucket_sets_nothing_free",
        instead(finish, "own", unowned),
    ),
    sqlite("own(b) of start", "test_starts.test_a_stale_fence_cannot_start_a_job", instead(start, "own", unowned)),
    sqlite(
        "own(b) of claim",
        "test_claims.test_a_lost_bucket_claims_nothing_and_the_others_do",
        instead(claim, "own", unowned),
    ),
    sqlite(
        "claim in Active only",
        "test_buckets.test_a_completing_bucket_claims_nothing",
        instead(claim, "ACTIVE", 2),
    ),
    sqlite("own(b) of give_up", "test_buckets.test_only_the_owner_gives_a_bucket_up", instead(buckets, "own", unowned)),
    sqlite(
        "own(b) of recover_before",
        "test_buckets.test_a_late_recovery_does_not_take_the_adopters_own_rows",
        instead(buckets, "own", unowned),
    ),
    sqlite(
        "own(b) of retire",
        "test_buckets.test_only_the_owner_or_the_drainer_retires_a_bucket",
        instead(buckets, "own", unowned),
    ),
    sqlite(
        "own(b) of complete", "test_buckets.test_only_the_owner_completes_or_reopens", instead(buckets, "own", unowned)
    ),
    sqlite(
        "own(b) of return_bucket",
        "test_drains.test_a_bucket_is_given_back_by_its_holder_only",
        instead(buckets, "own", unowned),
    ),
    sqlite(
        "own(b) of drain_in", "test_both_halves.test_who_lost_the_drain_moves_nothing", instead(buckets, "own", unowned)
    ),
    sqlite(
        "retire in Completing or Draining only",
        "test_buckets.test_a_retirement_that_comes_after_the_bucket_was_opened_again_takes_nothing_away",
        instead(buckets, "own", any_status),
    ),
    sqlite("drain in Draining only", "test_drains.test_only_the_drainer_drains", instead(buckets, "own", any_status)),
]

ROWS = [  # mine(row), final states, tombstones
    sqlite(
        "mine(row) of finish",
        "test_finishes.test_an_outcome_of_an_assignment_that_has_moved_on_is_stale",
        instead(rows.State, "mine", lambda *_: True),
    ),
    sqlite(
        "mine(row) of start",
        "test_starts.test_a_job_of_another_bucket_is_not_started",
        instead(rows.State, "mine", lambda *_: True),
    ),
    sqlite(
        "mine(row) of release",
        "test_finishes.test_a_release_never_touches_a_run_or_what_has_moved_on",
        instead(rows.State, "mine", lambda *_: True),
    ),
    sqlite(
        "mine(row) of hand_back",
        "test_finishes.test_what_has_ended_or_moved_on_is_not_handed_back",
        instead(rows.State, "mine", lambda *_: True),
    ),
    sqlite(
        "mine(row) of drain",
        "test_drains.test_a_drain_takes_no_job_from_its_present_owner",
        instead(rows.State, "mine", lambda *_: True),
    ),
    sqlite(
        "final is final",
        "test_finishes.test_a_final_state_is_final",
        instead(rows.State, "final", property(lambda _: False)),
    ),
    sqlite(
        "only what has not ended is cancelled",
        "test_cancels.test_a_job_that_has_ended_cannot_be_cancelled",
        instead(rows.State, "final", property(lambda _: False)),
    ),
    sqlite(
        "only what has ended runs again",
        "test_cancels.test_a_job_that_has_not_ended_is_not_run_again",
        instead(rows.State, "final", property(lambda _: True)),
    ),
    sqlite(
        "only what has ended is deleted",
        "test_retention.test_only_final_jobs_are_deleted",
        instead(rows.State, "final", property(lambda _: True)),
    ),
    sqlite(
        "the nonce of a start",
        "test_both_halves.test_a_repeated_take_over_is_told_from_a_second_life",
        instead(start, "signed", lambda _: 0),
    ),
    sqlite(
        "release of what waits only",
        "test_finishes.test_a_release_never_touches_a_run_or_what_has_moved_on",
        instead(finish, "WAITING", (3, 4, 6)),
    ),
    sqlite(
        "tombstones at a start",
        "test_starts.test_a_cancelled_job_is_not_started_wherever_it_waited",
        instead(start, "tombstoned", nobody),
    ),
    sqlite(
        "tombstones at a retry",
        "test_finishes.test_a_cancelled_job_is_not_tried_again",
        instead(finish, "tombstoned", nobody),
    ),
    sqlite(
        "tombstones at an acceptance",
        "test_accepting.test_a_cancelled_job_that_arrives_late_is_held_as_cancelled",
        instead(accept, "tombstoned", nobody),
    ),
    sqlite(
        "tombstones at a drain",
        "test_drains.test_a_tombstone_ends_a_job_that_is_drained",
        instead(buckets, "tombstoned", nobody),
    ),
    sqlite(
        "a cancel writes a tombstone",
        "test_cancels.test_a_job_that_nobody_knows_yet_gets_a_tombstone",
        instead(cancel, "_bury", nothing),
    ),
    sqlite(
        "a wish to run again removes it",
        "test_cancels.test_a_cancelled_job_that_is_run_again_is_not_cancelled_again",
        text(cancel, "UNBURY", "WHERE", "WHERE 0 AND"),
    ),
    sqlite(
        "recoveries count starts",
        "test_buckets.test_the_adopter_recovers_what_the_old_owner_had_in_memory",
        instead(recover, "after_loss", counting_all),
    ),
    sqlite(
        "nobody died where the worker lives",
        "test_leases.test_lost_replies_never_quarantine",
        instead(recover, "blame_on", unless_heard),
    ),
    sqlite(
        "a claim is a new assignment",
        "test_claims.test_a_copy_that_waits_as_a_message_is_not_the_assignment_that_was_claimed",
        text(claim, "TAKE", "gen = gen + 1", "gen = gen"),
    ),
    sqlite(
        "unroutable jobs are not claimed",
        "test_settings.test_a_job_without_a_task_waits_until_the_task_is_registered",
        text(claim, "FALLEN_DUE", "reason <> 'unroutable'", "1"),
    ),
    sqlite(
        "an acceptance again changes nothing",
        "test_accepting.test_holding_a_job_that_is_there_leaves_it_as_it_is",
        text(accept, "PRESENT", "WHERE", "WHERE 0 AND"),
    ),
    sqlite(
        "expiry only past the deadline",
        "test_claims.test_a_held_job_past_its_deadline_has_failed_as_expired",
        text(upkeep, "EXPIRED", "expires_us <= ?", "? > 0"),
    ),
    sqlite(
        "purge only what is old",
        "test_retention.test_jobs_that_ended_before_a_moment_are_deleted_in_bounded_batches",
        text(upkeep, "OLD", "finished_us < ?", "? > 0"),
    ),
    sqlite(
        "forget only results whose time has passed",
        "test_retention.test_a_result_is_kept_until_its_time_and_a_repeated_job_has_none_to_forget",
        text(upkeep, "PASSED", "result_until_us <= ?", "? > 0"),
    ),
    sqlite(
        "a forgotten result says so, where the job succeeded",
        "test_retention.test_the_result_of_a_run_that_had_a_row_goes_too_and_a_failure_keeps_its_reason",
        text(upkeep, "FORGET", "CASE status WHEN ?1 THEN ?2 ELSE reason END", "iif(?1, ?2, '')"),
    ),
    sqlite(
        "a repeated job has no result to forget",
        "test_retention.test_a_result_is_kept_until_its_time_and_a_repeated_job_has_none_to_forget",
        text(cancel, "REQUEUE", "result_until_us = NULL, ", ""),
    ),
    sqlite(
        "purge only old tombstones",
        "test_cancels.test_a_cancel_whose_reply_was_lost_answers_the_same_again",
        text(cancel, "STONE", "WHERE", "WHERE 0 AND"),
    ),
]

LEASES = [
    sqlite(
        "R4 boots are ordered",
        "test_leases.test_a_late_registration_of_an_older_boot_is_refused_with_the_newer_number",
        text(leases, "NEWEST_BOOT", "id, boot,", "id, -1,"),
    ),
    sqlite(
        "R4 the older boot's lease ends",
        "test_leases.test_a_restart_under_the_same_name_ends_the_old_boots_lease",
        text(leases, "END_LEASE", "ended = 1", "ended = ended"),
    ),
    sqlite(
        "R6 numbers",
        "test_leases.test_a_renewal_that_was_overtaken_changes_nothing",
        text(leases, "WORKER", "lanes, number", "lanes, 0"),
    ),
    sqlite(
        "R6 ended workers",
        "test_leases.test_an_ended_or_unknown_worker_is_told_that_it_is_gone",
        text(leases, "WORKER", "number, ended", "number, 0"),
    ),
    sqlite(
        "R6 cancellations",
        "test_leases.test_renewals_carry_cancellations_once_and_in_order",
        text(leases, "CANCELS", "WHERE", "WHERE 0 AND"),
    ),
    sqlite(
        "R7 Draining is no grant",
        "test_leases.test_a_bucket_that_is_drained_is_no_grant",
        text(leases, "GRANTED", "(1, 2)", "(1, 2, 4)"),
    ),
    sqlite(
        "R8",
        "test_leases.test_rows_that_the_worker_does_not_have_are_recovered",
        instead(leases, "_reconcile", nothing),
    ),
    sqlite(
        "R8 cut",
        "test_leases.test_rows_written_after_the_worker_counted_are_left_alone",
        text(leases, "FORGOTTEN", "touched_us < ?", "? > 0"),
    ),
    sqlite(
        "R15 the lease is judged",
        "test_lost_workers.test_the_buckets_of_a_silent_worker_are_lost_when_its_lease_has_ended",
        text(leases, "OWNERS", "w.lease_until_us", "0"),
    ),
    sqlite(
        "R15 epoch + 1",
        "test_lost_workers.test_marking_again_raises_no_epoch_twice",
        text(buckets, "LOSE", "epoch + 1", "epoch"),
    ),
    sqlite(
        "R15 a lost bucket is not clean",
        "test_lost_workers.test_an_ended_workers_buckets_are_lost_at_once",
        text(buckets, "LOSE", "clean = 0", "clean = clean"),
    ),
    sqlite(
        "R15 drains of dead drainers",
        "test_lost_workers.test_the_drain_of_a_dead_drainer_is_lost_too",
        text(leases, "LOSABLE", "(1, 2, 4)", "(1, 2)"),
    ),
    sqlite(
        "R15' epoch + 1",
        "test_leases.test_an_adoption_raises_the_epoch_and_says_when",
        text(leases, "ADOPT", "epoch + 1", "epoch"),
    ),
    sqlite(
        "R15' free buckets only",
        "test_leases.test_no_more_are_adopted_than_were_asked_for_and_never_a_living_ones",
        text(leases, "FREE", "AND owner IS NULL", ""),
    ),
    sqlite(
        "R15' lanes",
        "test_leases.test_nobody_adopts_who_does_not_ask_or_stops_or_serves_another_lane",
        text(leases, "FREE", "lane IN (SELECT value FROM json_each(?2))", "?2 IS NOT NULL"),
    ),
    sqlite(
        "a testimony recovers at once",
        "test_lost_workers.test_who_ran_in_a_dead_process_is_claimed_by_others_before_anybody_adopts",
        instead(leases, "recover_named", nothing),
    ),
    sqlite(
        "a testimony is about buckets that are lost by it",
        "test_lost_workers.test_a_testimony_leaves_alone_what_is_in_another_owners_hands",
        instead(leases, "recover_named", named_anywhere),
    ),
    sqlite(
        "R15'a 2 messages of recovered rows leave",
        "test_buckets.test_the_adopter_recovers_what_the_old_owner_had_in_memory",
        instead(buckets, "remove_messages_of", nothing),
        ("sqlite",),
    ),
    sqlite(
        "evidence about what is still the worker's",
        "test_lost_workers.test_evidence_that_comes_after_the_recovery_is_not_counted_again",
        text(testimony, "ADD_BLAME", "NOT EXISTS", "1 OR NOT EXISTS"),
    ),
    sqlite(
        "excuses",
        "test_lost_workers.test_who_ran_beside_the_job_that_is_to_blame_is_excused",
        text(testimony, "RUNNING", "WHERE", "WHERE 0 AND"),
    ),
    sqlite(
        "R5",
        "test_buckets.test_an_opening_that_is_repeated_after_the_bucket_was_lost_is_no_success",
        text(
            buckets,
            "BY_TOKEN",
            f"SELECT {buckets.BUCKET}",
            "SELECT id, agent, lane, priority, 1, status, 1, adopted_us, depth, clean",
        ),
    ),
    sqlite(
        "R5 living workers",
        "test_buckets.test_an_ended_worker_opens_nothing",
        instead(buckets, "require_living", nothing),
    ),
    sqlite(
        "R15'a 2",
        "test_buckets.test_the_adopter_recovers_what_the_old_owner_had_in_memory",
        text(buckets, "BEFORE", "WHERE", "WHERE 0 AND"),
    ),
    sqlite(
        "R15'a touched < adopted",
        "test_buckets.test_a_late_recovery_does_not_take_the_adopters_own_rows",
        text(buckets, "BEFORE", "touched_us < ?", "? > 0"),
    ),
    sqlite(
        "R16 retire",
        "test_buckets.test_a_retired_bucket_leaves_no_row_behind",
        text(buckets, "POINTING", "WHERE", "WHERE 0 AND"),
    ),
    sqlite(
        "R16 the same grant",
        "test_drains.test_asked_again_a_drainer_gets_the_same_bucket",
        text(buckets, "DRAINED_BY", "WHERE", "WHERE 0 AND"),
    ),
    sqlite(
        "R16 abandoned for long enough",
        "test_drains.test_a_bucket_that_nobody_adopts_for_a_while_is_drained_by_one_worker",
        text(buckets, "ABANDONED", "left_us <= ?", "? > 0"),
    ),
    sqlite(
        "R18 known buckets",
        "test_both_halves.test_a_bucket_that_the_master_knows_is_no_orphan",
        text(buckets, "KNOWN", "WHERE", "WHERE 0 AND"),
    ),
    sqlite(
        "R22' Queued to hold",
        "test_buckets.test_a_bucket_that_is_given_up_waits_open_for_its_next_owner",
        instead(buckets, "hold_row", nothing),
    ),
    sqlite(
        "R22' messages of rows leave with them",
        "test_buckets.test_a_bucket_that_is_given_up_lets_the_messages_of_its_rows_go",
        instead(buckets, "remove_messages_of", nothing),
        ("sqlite",),
    ),
    sqlite(
        "R22' clean only without rows",
        "test_buckets.test_a_bucket_that_is_given_up_is_clean_only_if_nothing_of_it_can_have_a_row",
        text(buckets, "GIVE_UP", "AND ?", "OR ?"),
    ),
    sqlite(
        "R22' unclean stays unclean",
        "test_buckets.test_a_bucket_that_was_lost_stays_unclean_when_its_next_owner_gives_it_up",
        text(buckets, "GIVE_UP", "(clean OR ?)", "(1 OR ?)"),
    ),
    sqlite(
        "settings have versions",
        "test_settings.test_settings_that_were_changed_meanwhile_are_not_overwritten",
        text(cluster, "SAVE_NEXT", "AND version = ?", "AND ? > 0"),
    ),
    sqlite(
        "the first answer stays",
        "test_commands.test_a_command_is_given_until_it_is_answered_and_the_first_answer_stays",
        text(commands, "ANSWER", "AND answered_us IS NULL", ""),
    ),
]

AGENTS = [
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

EDGES = [
    sqlite(
        "the edge of push",
        "test_hostile_data.test_a_job_with_a_text_that_not_every_store_keeps_is_refused_whole",
        instead(agent_verbs, "check_jobs", nothing),
        field="task",
        text="a\0b",
    ),
    sqlite(
        "the edge of hold",
        "test_hostile_data.test_a_number_that_not_every_store_keeps_is_refused",
        instead(master_verbs, "check_jobs", nothing),
        times={"due_us": -1},
    ),
    sqlite(
        "the edge of names",
        "test_hostile_data.test_every_name_is_checked_before_anything_is_written",
        instead(master_verbs, "check_text", nothing),
        text="a\0b",
    ),
]

SQLITE = [*OWN, *ROWS, *LEASES, *AGENTS, *EDGES]
