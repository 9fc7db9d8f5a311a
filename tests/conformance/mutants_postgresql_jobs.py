"""PostgreSQL stores whose job verbs lack one guard: a statement changed, or a function replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from jobmaster.stores.sql.job_rows import State
from jobmaster.stores.sql.postgresql import (
    arrays,
    claim,
    finish,
    letting_go,
    messages,
    outcomes,
    recover,
    rows,
    start,
    take_over,
)
from jobmaster.stores.sql.postgresql.owning import Owned
from tests.conformance.mutants import Mutant, Patch, instead, nothing
from tests.conformance.test_job_races import with_a_row, without_a_row

BOTH = ("postgresql", "postgresql-split")
STANDALONE = ("postgresql",)


def postgresql(guard: str, noticed_by: str, patch: Patch, adapters: tuple[str, ...] = BOTH, **given: Any) -> Mutant:
    return Mutant(guard, noticed_by, adapters, patch=patch, arguments=given)


def text(owner: Any, name: str, old: str, new: str) -> Patch:
    """The statement `owner.name` with `new` in the place of `old`, and what was made of it forgotten."""
    statement = getattr(owner, name)
    assert old in statement, f"{owner}.{name} does not say {old!r} any more"

    @contextlib.contextmanager
    def changed() -> Iterator[None]:
        _forget()
        try:
            with mock.patch.object(owner, name, statement.replace(old, new)):
                yield
        finally:
            _forget()

    return changed


def _forget() -> None:
    finish.statement.cache_clear()
    take_over.statement.cache_clear()


async def unowned(*_: Any, **__: Any) -> Owned:
    """own(b) that never says Fenced."""
    return Owned("", 3, 1)


async def nobody(*_: Any, **__: Any) -> set[bytes]:
    return set()


async def not_counted(*_: Any, **__: Any) -> None:
    return None


async def never_sees_the_faster_one(transaction: Any, new: Any) -> set[bytes]:
    """Inserts without asking whose row is there now."""
    await rows.insert_jobs(transaction, new)
    return {row[0] for row in new}


def all_of_them(outcomes_or_starts: Any) -> Any:
    return outcomes_or_starts


GUARD = "owner = $2 AND epoch = $3 FOR SHARE"
ANYBODY = "($2::bigint, $3::bigint) IS NOT NULL FOR SHARE"
UNLOCKED = "owner = $2 AND epoch = $3"

OUTCOMES = [
    postgresql(
        "own(b) of finish",
        "test_finishes.test_a_stale_fence_cannot_finish_a_job",
        text(finish, "FINISH", GUARD, ANYBODY),
    ),
    postgresql(
        "own(b) of finish is of one owner",
        "test_finishes.test_an_outcome_of_the_right_epoch_and_the_wrong_owner_is_fenced",
        text(finish, "FINISH", "owner = $2 AND", "$2::bigint > 0 AND"),
    ),
    postgresql(
        "own(b) of finish is a lock",
        "test_row_locks.test_a_finish_that_waits_for_a_give_up_is_fenced",
        text(finish, "FINISH", GUARD, UNLOCKED),
    ),
    postgresql(
        "a fenced batch removes nothing",
        "test_both_halves.test_a_fenced_batch_removes_no_message",
        text(finish, "FINISH", "CASE WHEN EXISTS (SELECT FROM own) THEN $5::bigint[] END", "$5::bigint[]"),
        STANDALONE,
    ),
    postgresql(
        "a settled job's message leaves",
        "test_both_halves.test_a_settled_job_leaves_its_agent",
        text(finish, "FINISH", "$5::bigint[] END", "($5::bigint[])[:0] END"),
        STANDALONE,
    ),
    postgresql(
        "mine(row) of finish: bucket",
        "test_job_batches.test_an_outcome_of_another_bucket_s_run_is_stale",
        text(finish, "OTHERWISE", "jm_job.bucket = excluded.bucket AND", ""),
    ),
    postgresql(
        "mine(row) of finish: gen",
        "test_job_batches.test_an_outcome_of_an_earlier_assignment_to_the_same_bucket_is_stale",
        text(finish, "OTHERWISE", "jm_job.gen = excluded.gen AND", ""),
    ),
    postgresql(
        "final is final",
        "test_finishes.test_a_final_state_is_final",
        text(finish, "OTHERWISE", "AND jm_job.status NOT IN (5, 7, 8)", ""),
    ),
    postgresql(
        "what one statement leaves is decided",
        "test_finishes.test_an_outcome_of_an_assignment_that_has_moved_on_is_stale",
        text(finish, "FINISH", "count(*),", "cardinality(${keys}::uuid[]),"),
    ),
    postgresql(
        "a retry is no end",
        "test_finishes.test_a_retry_waits_on_the_master_for_its_time",
        instead(finish, "ready", all_of_them),
    ),
    postgresql(
        "attempts that failed are recorded",
        "test_finishes.test_a_failed_job_keeps_its_error_and_its_attempt",
        text(finish, "ATTEMPTS", "status = 7", "status = 0"),
    ),
    postgresql(
        "an earlier checkpoint stays",
        "test_job_batches.test_an_outcome_without_a_checkpoint_keeps_the_earlier_one",
        text(finish, "OTHERWISE", "coalesce(excluded.checkpoint, jm_job.checkpoint)", "excluded.checkpoint"),
    ),
    postgresql(
        "evidence is void when its job ends",
        "test_job_batches.test_evidence_is_void_when_its_job_has_ended",
        text(finish, "FINISH", "SET counted = 1", "SET counted = 0"),
    ),
    postgresql(
        "waiting clients are told",
        "test_job_batches.test_who_waits_for_a_job_is_told_of_its_end",
        instead(finish, "_channels", lambda _: []),
    ),
    postgresql(
        "one column for all only where all are alike",
        "test_job_batches.test_a_batch_of_all_kinds_keeps_each_job_s_own",
        instead(arrays, "alike", lambda _: True),
    ),
    postgresql(
        "mine(row) of a retry",
        "test_finishes.test_a_retry_whose_reply_was_lost_is_not_applied_twice",
        instead(State, "mine", lambda *_: True),
    ),
    postgresql(
        "own(b) of a retry",
        "test_job_batches.test_a_stale_fence_cannot_hold_a_job_for_another_attempt",
        instead(outcomes, "own", unowned),
    ),
    postgresql(
        "tombstones at a retry",
        "test_finishes.test_a_cancelled_job_is_not_tried_again",
        instead(outcomes, "tombstoned", nobody),
    ),
    postgresql(
        "rows are locked before they are decided over",
        "test_job_races.test_a_retry_that_waits_for_the_job_s_end_changes_nothing",
        text(rows, "STATES", " FOR UPDATE", ""),
        prepared=with_a_row,
    ),
    postgresql(
        "an absent row is never trusted",
        "test_job_races.test_a_retry_that_waits_for_the_job_s_end_changes_nothing",
        instead(outcomes, "insert_absent", never_sees_the_faster_one),
        prepared=without_a_row,
    ),
]

STARTS = [
    postgresql(
        "own(b) of start",
        "test_starts.test_a_stale_fence_cannot_start_a_job",
        text(take_over, "TAKE_OVER", GUARD, ANYBODY),
    ),
    postgresql(
        "own(b) of a claimed job's start",
        "test_job_batches.test_a_stale_fence_cannot_start_a_claimed_job",
        instead(start, "own", unowned),
    ),
    postgresql(
        "own(b) of start is a lock",
        "test_job_races.test_a_start_that_waits_for_a_give_up_is_fenced_and_leaves_its_message",
        text(take_over, "TAKE_OVER", GUARD, UNLOCKED),
    ),
    postgresql(
        "tombstones at the start of a message",
        "test_starts.test_a_cancelled_job_is_not_started_wherever_it_waited",
        text(take_over, "TAKE_OVER", "FROM jm_tombstone WHERE", "FROM jm_tombstone WHERE false AND"),
    ),
    postgresql(
        "tombstones at the start of a row",
        "test_starts.test_a_cancelled_job_is_not_started_wherever_it_waited",
        instead(start, "tombstoned", nobody),
    ),
    postgresql(
        "evidence at the start of a message",
        "test_lost_workers.test_a_job_that_only_its_message_knew_is_counted_when_its_process_died",
        text(take_over, "TAKE_OVER", "FROM jm_blame WHERE", "FROM jm_blame WHERE false AND"),
    ),
    postgresql(
        "evidence counts once at a start",
        "test_job_batches.test_evidence_counts_at_one_start_only",
        instead(start, "count_blames", not_counted),
    ),
    postgresql(
        "a fenced take-over removes nothing",
        "test_both_halves.test_a_fenced_take_over_removes_nothing",
        text(take_over, "TAKE_OVER", "CASE WHEN EXISTS (SELECT FROM fit) THEN $5::bigint[] END", "$5::bigint[]"),
        STANDALONE,
    ),
    postgresql(
        "the message of a start at most once leaves",
        "test_both_halves.test_an_at_most_once_message_leaves_when_its_start_is_recorded",
        text(take_over, "TAKE_OVER", "$5::bigint[] END", "($5::bigint[])[:0] END"),
        STANDALONE,
    ),
    postgresql(
        "the message of what may not start leaves",
        "test_both_halves.test_a_message_that_may_not_start_leaves_its_agent",
        text(messages, "REMOVE", "WHERE", "WHERE false AND"),
        STANDALONE,
    ),
    postgresql(
        "an inserted row is the permission",
        "test_both_halves.test_take_overs_at_once_start_a_job_once",
        text(
            take_over,
            "TAKE_OVER",
            "SELECT (SELECT count(*) FROM own), count(*),",
            "SELECT (SELECT count(*) FROM own), cardinality(${keys}::uuid[]),",
        ),
    ),
    postgresql(
        "the nonce of a start",
        "test_both_halves.test_a_repeated_take_over_is_told_from_a_second_life",
        instead(start, "signed", lambda _: 5),
    ),
    postgresql(
        "mine(row) of start",
        "test_starts.test_a_job_of_another_bucket_is_not_started",
        instead(State, "mine", lambda *_: True),
    ),
    postgresql(
        "a cancel and a start decide about a message one after the other",
        "test_job_races.test_a_message_that_is_cancelled_for_certain_does_not_start",
        text(
            take_over,
            "TAKE_OVER",
            "ON CONFLICT (id) DO NOTHING RETURNING id",
            "ON CONFLICT (id) DO UPDATE SET status = excluded.status RETURNING id",
        ),
        STANDALONE,
    ),
]

CLAIMS = [
    postgresql(
        "own(b) of claim",
        "test_claims.test_a_lost_bucket_claims_nothing_and_the_others_do",
        text(claim, "CLAIM", GUARD, ANYBODY),
    ),
    postgresql(
        "own(b) of claim is a lock",
        "test_job_races.test_a_claim_that_waits_for_a_give_up_gets_nothing",
        text(claim, "CLAIM", GUARD, UNLOCKED),
    ),
    postgresql(
        "claim in Active only",
        "test_buckets.test_a_completing_bucket_claims_nothing",
        text(claim, "CLAIM", "WHERE status = 1)", ")"),
    ),
    postgresql(
        "a claim locks what it takes",
        "test_job_races.test_a_claim_leaves_what_another_is_claiming",
        text(claim, "CLAIM", "FOR UPDATE SKIP LOCKED", ""),
    ),
    postgresql(
        "a claim is a new assignment",
        "test_claims.test_a_copy_that_waits_as_a_message_is_not_the_assignment_that_was_claimed",
        text(claim, "CLAIM", "gen = gen + 1", "gen = gen"),
    ),
    postgresql(
        "unroutable jobs are not claimed",
        "test_settings.test_a_job_without_a_task_waits_until_the_task_is_registered",
        text(claim, "CLAIM", "reason <> 'unroutable'", "true"),
    ),
    postgresql(
        "only what falls due is claimed",
        "test_claims.test_a_claim_says_when_the_next_job_falls_due",
        text(claim, "CLAIM", "AND due_us <= (SELECT us FROM now) + $5::bigint", "AND $5::bigint >= 0"),
    ),
    postgresql(
        "what is due next is what was not taken",
        "test_job_batches.test_a_claim_names_the_first_job_that_it_leaves",
        text(claim, "CLAIM", "OFFSET (SELECT count(*) FROM picked)", "OFFSET 0"),
    ),
    postgresql(
        "in the order of their times",
        "test_claims.test_due_jobs_of_the_buckets_lane_and_priority_are_claimed_by_their_time",
        text(claim, "CLAIM", "ORDER BY taken.due_us, taken.id", "ORDER BY taken.due_us DESC"),
    ),
]

LETTING_GO = [
    postgresql(
        "own(b) of release",
        "test_finishes.test_a_release_never_touches_a_run_or_what_has_moved_on",
        instead(letting_go, "own", unowned),
    ),
    postgresql(
        "own(b) of hand_back",
        "test_both_halves.test_who_lost_the_bucket_sets_nothing_free",
        instead(letting_go, "own", unowned),
    ),
    postgresql(
        "mine(row) of release",
        "test_finishes.test_a_release_never_touches_a_run_or_what_has_moved_on",
        instead(State, "mine", lambda *_: True),
    ),
    postgresql(
        "mine(row) of hand_back",
        "test_finishes.test_what_has_ended_or_moved_on_is_not_handed_back",
        instead(State, "mine", lambda *_: True),
    ),
    postgresql(
        "release of what waits only",
        "test_finishes.test_a_release_never_touches_a_run_or_what_has_moved_on",
        instead(letting_go, "WAITING", (3, 4, 6)),
    ),
    postgresql(
        "tombstones at a release",
        "test_job_batches.test_a_cancelled_job_that_is_released_has_ended",
        instead(letting_go, "tombstoned", nobody),
    ),
    postgresql(
        "what is set free has no message",
        "test_both_halves.test_what_is_set_free_is_held_and_has_no_message",
        text(messages, "REMOVE", "WHERE", "WHERE false AND"),
        STANDALONE,
    ),
]

RECOVERIES = [
    postgresql(
        "a recovered run's attempt is recorded",
        "test_starts.test_a_new_life_that_starts_a_running_job_again_counts_a_recovery",
        instead(start, "record_lost", not_counted),
    ),
    postgresql(
        "recovered rows are suspect",
        "test_job_batches.test_a_recovered_job_is_suspect_at_a_new_assignment",
        text(recover.RECOVER, "statement", "suspect = 1", "suspect = 0"),
    ),
    postgresql(
        "a recovery is a new assignment",
        "test_job_batches.test_a_recovered_job_is_suspect_at_a_new_assignment",
        text(recover.RECOVER, "statement", "gen = jm_job.gen + 1", "gen = jm_job.gen"),
    ),
    postgresql(
        "who waits for a job that a recovery ends is told",
        "test_job_batches.test_who_waits_for_a_job_that_is_lost_is_told",
        instead(recover, "tell_client", nothing),
    ),
]

POSTGRESQL_JOBS = [*OUTCOMES, *STARTS, *CLAIMS, *LETTING_GO, *RECOVERIES]
