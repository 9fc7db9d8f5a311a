"""Stores with one guard removed, and the case that must fail on each.

A memory store loses its guard by `jobmaster.stores.memory.variants`; a store of SQL by a changed statement or a
replaced function of its dialect's modules (mutants_sqlite.py). A mutant that no case notices is a guard without a test,
or no guard.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

BOTH_MEMORY = ("memory", "memory-split")

Patch = Callable[[], contextlib.AbstractContextManager[Any]]


@dataclass(frozen=True)
class Mutant:
    """A guard taken away from some adapters. `noticed_by` is "module.test" of this suite."""

    guard: str
    noticed_by: str
    adapters: tuple[str, ...]
    removed: frozenset[str] = frozenset()
    patch: Patch | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        with self.patch() if self.patch is not None else contextlib.nullcontext():
            yield


def memory(guard: str, noticed_by: str, adapters: tuple[str, ...] = BOTH_MEMORY) -> Mutant:
    return Mutant(guard, noticed_by, adapters, removed=frozenset({guard}))


MEMORY = [
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
    memory("no_tombstone", "test_cancels.test_a_job_that_nobody_knows_yet_gets_a_tombstone"),
    memory("renew_order", "test_leases.test_a_renewal_that_was_overtaken_changes_nothing"),
    memory("lease_early", "test_row_locks.test_a_lease_is_judged_after_the_lock_is_held"),
    memory("open_always", "test_agent_ownership.test_a_drainer_reads_everything_and_shuts_the_bucket"),
    memory("any_version", "test_settings.test_settings_that_were_changed_meanwhile_are_not_overwritten"),
    memory("hold_over", "test_accepting.test_holding_a_job_that_is_there_leaves_it_as_it_is"),
    memory("known_orphans", "test_both_halves.test_a_bucket_that_the_master_knows_is_no_orphan", ("memory-split",)),
]
