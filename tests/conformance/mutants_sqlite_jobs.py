"""SQLite stores with one guard of a job's verbs removed: a statement changed, or a function replaced."""

from __future__ import annotations

from typing import Any

from jobmaster.stores.sql.sqlite import (
    accept,
    agent_verbs,
    buckets,
    cancel,
    claim,
    finish,
    master_verbs,
    recover,
    rows,
    start,
    upkeep,
)
from jobmaster.stores.sql.sqlite.owning import Owned, own
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


def counting_all(row: Any, *, blame: str | None, **known: Any) -> Any:
    return real_after_loss(row, blame=blame or "nobody saw it run", **known)


real_after_loss = recover.after_loss


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

SQLITE_JOBS = [*OWN, *ROWS, *EDGES]
