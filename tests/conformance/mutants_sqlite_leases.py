"""SQLite stores with one guard removed from the verbs of workers and buckets."""

from __future__ import annotations

from typing import Any

from jobmaster.stores.sql.sqlite import buckets, cluster, commands, leases, testimony
from tests.conformance.mutants import instead, nothing, text
from tests.conformance.mutants_sqlite_jobs import sqlite


def named_anywhere(transaction: Any, worker: int, said: Any, _buckets: Any) -> None:
    testimony.recover_named(transaction, worker, said, range(1_000))


SQLITE_LEASES = [
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
