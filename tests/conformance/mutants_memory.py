"""Stores in memory with one guard removed: a variant of the package, or a method of the plain store replaced."""

from __future__ import annotations

from typing import Any

from jobmaster.stores.memory import MemoryAgent, MemoryStore, claims, leases, messages
from jobmaster.stores.memory.buckets import Buckets
from jobmaster.stores.memory.leases import Leases
from jobmaster.stores.memory.state import MasterState
from tests.conformance.mutants import Mutant, Patch, instead, nothing

BOTH_MEMORY = ("memory", "memory-split")


def memory(guard: str, noticed_by: str, adapters: tuple[str, ...] = BOTH_MEMORY) -> Mutant:
    return Mutant(guard, noticed_by, adapters, removed=frozenset({guard}))


def patched(
    guard: str, noticed_by: str, patch: Patch, adapters: tuple[str, ...] = BOTH_MEMORY, **arguments: Any
) -> Mutant:
    return Mutant(guard, noticed_by, adapters, patch=patch, arguments=arguments)


def always(*_: Any) -> bool:
    return True


VARIANTS = [
    memory("no_fence", "test_finishes.test_a_stale_fence_cannot_finish_a_job"),
    memory("no_fence", "test_finishes.test_an_outcome_of_an_assignment_that_has_moved_on_is_stale"),
    memory("no_lock", "test_row_locks.test_a_bucket_is_not_lost_under_a_finish_that_is_under_way"),
    memory("no_epoch", "test_finishes.test_an_outcome_of_the_right_epoch_and_the_wrong_owner_is_fenced"),
    memory("no_row_guard", "test_finishes.test_an_outcome_of_an_assignment_that_has_moved_on_is_stale"),
    memory("early_ack", "test_both_halves.test_a_fenced_batch_removes_no_message"),
    memory("no_reconcile", "test_leases.test_rows_that_the_worker_does_not_have_are_recovered"),
    memory("no_cut", "test_leases.test_rows_written_after_the_worker_counted_are_left_alone"),
    memory("loose_close", "test_row_locks.test_a_close_waits_for_inserts_that_are_under_way"),
    memory("naive_drain", "test_drains.test_a_drain_takes_no_job_from_its_present_owner"),
    memory("msgid_job", "test_accepting.test_a_copy_in_another_bucket_does_not_swallow_a_repeated_push"),
    memory("ack_by_job", "test_reading.test_removing_one_copy_leaves_the_copy_in_another_bucket"),
    memory(
        "retire_any",
        "test_buckets.test_a_retirement_that_comes_after_the_bucket_was_opened_again_takes_nothing_away",
    ),
    memory("no_retire", "test_buckets.test_a_retired_bucket_leaves_no_row_behind"),
    memory("count_all", "test_buckets.test_the_adopter_recovers_what_the_old_owner_had_in_memory"),
    memory("amo_no_nonce", "test_both_halves.test_a_repeated_take_over_is_told_from_a_second_life"),
    memory("release_all", "test_finishes.test_a_release_never_touches_a_run_or_what_has_moved_on"),
    memory("boot_order", "test_leases.test_a_late_registration_of_an_older_boot_is_refused_with_the_newer_number"),
    memory("blind_open", "test_buckets.test_an_opening_that_is_repeated_after_the_bucket_was_lost_is_no_success"),
    memory("drain_once", "test_drains.test_asked_again_a_drainer_gets_the_same_bucket"),
    memory("deaf_renewals", "test_leases.test_renewals_carry_cancellations_once_and_in_order"),
    memory(
        "no_agent_fence", "test_agent_ownership.test_a_late_close_of_the_old_owner_does_not_shut_the_adopters_bucket"
    ),
    memory("no_recover", "test_buckets.test_the_adopter_recovers_what_the_old_owner_had_in_memory"),
    memory("no_recover_reconcile", "test_leases.test_rows_that_the_worker_does_not_have_are_recovered"),
    memory("recover_all", "test_buckets.test_a_late_recovery_does_not_take_the_adopters_own_rows"),
    memory("adopt_epoch", "test_leases.test_an_adoption_raises_the_epoch_and_says_when"),
    memory("claim_no_own", "test_claims.test_a_lost_bucket_claims_nothing_and_the_others_do"),
    memory("claim_gen", "test_claims.test_a_copy_that_waits_as_a_message_is_not_the_assignment_that_was_claimed"),
    memory("disown_rows", "test_buckets.test_a_bucket_that_is_given_up_waits_open_for_its_next_owner"),
    memory(
        "keep_messages", "test_buckets.test_a_bucket_that_is_given_up_lets_the_messages_of_its_rows_go", ("memory",)
    ),
    memory("no_tombstone", "test_cancels.test_a_job_that_nobody_knows_yet_gets_a_tombstone"),
    memory("renew_order", "test_leases.test_a_renewal_that_was_overtaken_changes_nothing"),
    memory("lease_early", "test_row_locks.test_a_lease_is_judged_after_the_lock_is_held"),
    memory("open_always", "test_agent_ownership.test_a_drainer_reads_everything_and_shuts_the_bucket"),
    memory("any_version", "test_settings.test_settings_that_were_changed_meanwhile_are_not_overwritten"),
    memory("hold_over", "test_accepting.test_holding_a_job_that_is_there_leaves_it_as_it_is"),
    memory("known_orphans", "test_both_halves.test_a_bucket_that_the_master_knows_is_no_orphan", ("memory-split",)),
]

UNOWNED = instead(MasterState, "_check_owner", nothing)
NOBODYS = instead(MasterState, "_mine", always)

PATCHED = [
    patched("own(b) of start", "test_starts.test_a_stale_fence_cannot_start_a_job", UNOWNED),
    patched(
        "nobody died where the worker lives",
        "test_leases.test_lost_replies_never_quarantine",
        instead(MasterState, "_blame_on", lambda self, row, _living: self.blames.pop(row.key, (None,))[0]),
    ),
    patched("own(b) of release", "test_finishes.test_a_release_never_touches_a_run_or_what_has_moved_on", UNOWNED),
    patched("own(b) of hand_back", "test_both_halves.test_who_lost_the_bucket_sets_nothing_free", UNOWNED),
    patched("own(b) of give_up", "test_buckets.test_only_the_owner_gives_a_bucket_up", UNOWNED),
    patched(
        "own(b) of recover_before", "test_buckets.test_a_late_recovery_does_not_take_the_adopters_own_rows", UNOWNED
    ),
    patched("own(b) of complete", "test_buckets.test_only_the_owner_completes_or_reopens", UNOWNED),
    patched("own(b) of retire", "test_buckets.test_only_the_owner_or_the_drainer_retires_a_bucket", UNOWNED),
    patched("own(b) of return_bucket", "test_drains.test_a_bucket_is_given_back_by_its_holder_only", UNOWNED),
    patched("own(b) of drain_in", "test_drains.test_an_earlier_drainer_moves_nothing_of_the_present_one", UNOWNED),
    patched("mine(row) of start", "test_starts.test_a_job_of_another_bucket_is_not_started", NOBODYS),
    patched("mine(row) of release", "test_finishes.test_a_release_never_touches_a_run_or_what_has_moved_on", NOBODYS),
    patched("mine(row) of hand_back", "test_finishes.test_what_has_ended_or_moved_on_is_not_handed_back", NOBODYS),
    patched(
        "R5 living workers", "test_buckets.test_an_ended_worker_opens_nothing", instead(Buckets, "_living", nothing)
    ),
    patched(
        "R15' free buckets only",
        "test_leases.test_no_more_are_adopted_than_were_asked_for_and_never_a_living_ones",
        instead(leases, "is_free", always),
    ),
    patched(
        "R15 the lease is judged",
        "test_lost_workers.test_the_buckets_of_a_silent_worker_are_lost_when_its_lease_has_ended",
        instead(Leases, "_lease_ended", lambda _, bucket, _as_of_us: bucket.owner is not None),
    ),
    patched(
        "evidence about what is still the worker's",
        "test_lost_workers.test_evidence_that_comes_after_the_recovery_is_not_counted_again",
        instead(Leases, "_may_be_blamed", always),
    ),
    patched(
        "R15'a 1 the reader's epoch",
        "test_reading.test_a_reader_of_an_older_epoch_is_fenced",
        instead(MemoryAgent, "_check_reader", nothing),
    ),
    patched(
        "R15'a 1 the fence's epoch",
        "test_agent_ownership.test_a_fence_of_an_older_epoch_changes_nothing",
        instead(MemoryAgent, "_check_newer", nothing),
    ),
    patched(
        "R16 the drainer's epoch",
        "test_agent_ownership.test_a_late_drainer_does_not_shut_the_bucket_of_its_next_owner",
        instead(MemoryAgent, "_check_newer", nothing),
    ),
    patched(
        "R20 the giver's epoch",
        "test_agent_ownership.test_an_old_owner_gives_nothing_away",
        instead(MemoryAgent, "_check_same", nothing),
    ),
    patched(
        "R24 the closer's epoch",
        "test_agent_ownership.test_a_late_close_of_the_old_owner_does_not_shut_the_adopters_bucket",
        instead(MemoryAgent, "_check_same", nothing),
    ),
    patched(
        "a standalone read looks no further than the window",
        "test_reading.test_a_message_that_can_still_be_cancelled_for_certain_is_read_by_nobody",
        instead(MemoryStore, "_window", lambda _, asked: asked),
        ("memory",),
    ),
    patched(
        "the edge of push",
        "test_hostile_data.test_a_job_with_a_text_that_not_every_store_keeps_is_refused_whole",
        instead(messages, "check_jobs", nothing),
        field="task",
        text="a\0b",
    ),
    patched(
        "the edge of hold",
        "test_hostile_data.test_a_number_that_not_every_store_keeps_is_refused",
        instead(claims, "check_jobs", nothing),
        times={"due_us": -1},
    ),
]

MEMORY = [*VARIANTS, *PATCHED]
