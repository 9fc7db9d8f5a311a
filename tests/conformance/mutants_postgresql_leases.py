"""PostgreSQL stores with one guard removed from the verbs of workers and buckets."""

from __future__ import annotations

from typing import Any

from jobmaster.stores.sql.job_rows import State
from jobmaster.stores.sql.postgresql import buckets, drain, leases, news, owning, recover, renewal, testimony
from jobmaster.stores.sql.postgresql.news import Worker
from jobmaster.stores.sql.postgresql.owning import Owned, own
from tests.conformance.mutants import Mutant, Patch, both, instead, text

BOTH = ("postgresql", "postgresql-split")
STANDALONE = ("postgresql",)

LEASE = "test_leases."
LOST = "test_lost_workers."
BUCKET = "test_buckets."
DRAIN = "test_drains."
RACE = "test_bucket_races."


def postgresql(guard: str, noticed_by: str, patch: Patch, adapters: tuple[str, ...] = BOTH) -> Mutant:
    return Mutant(guard, noticed_by, adapters, patch=patch)


def _unless_heard(row: Any, blames: Any, _living: Any) -> str | None:
    return blames[row.key].reason if row.key in blames else None


async def _nothing(*_: Any, **__: Any) -> None:
    return None


async def _named_anywhere(transaction: Any, worker: int, said: Any, _buckets: Any) -> None:
    await testimony.recover_named(transaction, worker, said, range(1_000))


async def _stored(*_: Any, **__: Any) -> bool:
    return True


async def _living(*_: Any, **__: Any) -> int:
    return 1


def _owned_in(status: int) -> Any:
    """own(b) that never says Fenced."""

    async def unowned(transaction: Any, *_: Any, **__: Any) -> Owned:
        await transaction.tick()
        return Owned("", 3, status)

    return unowned


async def _in_any_status(transaction: Any, fence: Any, *_: int) -> Owned:
    return await own(transaction, fence, exclusively=True)


class _Everything(frozenset[str]):
    def __contains__(self, _: object) -> bool:
        return True


def _of_every_lane(row: Any, *, prolonged: bool) -> Worker:
    return Worker(row[0], row[1], _Everything(), prolonged)


OWN = [
    postgresql(
        "own(b) of give_up", BUCKET + "test_only_the_owner_gives_a_bucket_up", instead(buckets, "own", _owned_in(1))
    ),
    postgresql(
        "own(b) of recover_before",
        BUCKET + "test_a_late_recovery_does_not_take_the_adopters_own_rows",
        instead(buckets, "own", _owned_in(1)),
    ),
    postgresql(
        "own(b) of complete", BUCKET + "test_only_the_owner_completes_or_reopens", instead(buckets, "own", _owned_in(1))
    ),
    postgresql(
        "own(b) of return_bucket",
        DRAIN + "test_a_bucket_is_given_back_by_its_holder_only",
        instead(buckets, "own", _owned_in(1)),
    ),
    postgresql(
        "own(b) of retire",
        BUCKET + "test_only_the_owner_or_the_drainer_retires_a_bucket",
        instead(buckets, "own", _owned_in(2)),
    ),
    postgresql(
        "own(b) of a drain",
        "test_both_halves.test_who_lost_the_drain_moves_nothing",
        instead(buckets, "own", _owned_in(4)),
        ("postgresql-split",),
    ),
    postgresql(
        "retire in Completing or Draining only",
        BUCKET + "test_a_retirement_that_comes_after_the_bucket_was_opened_again_takes_nothing_away",
        instead(drain, "own_as", _in_any_status),
    ),
    postgresql(
        "drain in Draining only", DRAIN + "test_only_the_drainer_drains", instead(drain, "own_as", _in_any_status)
    ),
    postgresql(
        "a give-up holds the bucket exclusively",
        RACE + "test_a_bucket_that_is_given_up_beside_a_start_is_not_clean",
        text(owning, "EXCLUSIVE", "FOR UPDATE", "FOR SHARE"),
    ),
]

WORKERS = [
    postgresql(
        "R4 a higher boot",
        LEASE + "test_a_late_registration_of_an_older_boot_is_refused_with_the_newer_number",
        text(leases, "HOLD_NEWEST_BOOT", "id, boot,", "id, -1,"),
    ),
    postgresql(
        "R4 the older lease ends",
        LEASE + "test_a_restart_under_the_same_name_ends_the_old_boots_lease",
        text(leases, "END_LEASE", "ended = 1", "ended = ended"),
    ),
    postgresql(
        "R4 boots of one name come one by one",
        RACE + "test_an_older_boot_that_registers_at_once_is_refused",
        text(leases, "ALONE", "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared"),
    ),
    postgresql(
        "an end holds the worker",
        RACE + "test_an_end_that_comes_while_a_bucket_is_opened_takes_it_away",
        text(leases, "HOLD_WORKER", "FOR UPDATE", ""),
    ),
    postgresql(
        "excuses",
        LOST + "test_who_ran_beside_the_job_that_is_to_blame_is_excused",
        text(testimony, "RUNNING", "WHERE", "WHERE false AND"),
    ),
    postgresql(
        "a testimony recovers at once",
        LOST + "test_who_ran_in_a_dead_process_is_claimed_by_others_before_anybody_adopts",
        instead(leases, "recover_named", _nothing),
    ),
    postgresql(
        "a testimony is about buckets that are lost by it",
        LOST + "test_a_testimony_leaves_alone_what_is_in_another_owners_hands",
        instead(leases, "recover_named", _named_anywhere),
    ),
    postgresql(
        "R15'a 2 messages of recovered rows leave",
        BUCKET + "test_the_adopter_recovers_what_the_old_owner_had_in_memory",
        instead(buckets, "remove_messages_of", _nothing),
        STANDALONE,
    ),
    postgresql(
        "evidence about what is still the worker's",
        LOST + "test_evidence_that_comes_after_the_recovery_is_not_counted_again",
        text(testimony, "HOLD_BLAMED", "WHERE", "WHERE false AND"),
    ),
    postgresql(
        "evidence holds the job's row",
        RACE + "test_evidence_that_comes_while_the_job_is_taken_back_is_not_counted_again",
        text(testimony, "HOLD_BLAMED", "FOR UPDATE", ""),
    ),
    postgresql(
        "R15 the lease is looked at",
        LOST + "test_the_buckets_of_a_silent_worker_are_lost_when_its_lease_has_ended",
        both(
            text(leases, "SUSPECTS", "w.lease_until_us <=", "0 <"), text(leases, "HOLD_OWNERS", "lease_until_us", "0")
        ),
    ),
    postgresql(
        "R15 the lease is judged when the bucket is held",
        "test_row_locks.test_a_lease_is_judged_after_the_lock_is_held",
        text(leases, "HOLD_OWNERS", "lease_until_us", "0"),
    ),
    postgresql(
        "R15 who is being renewed is not lost",
        RACE + "test_a_renewal_under_way_keeps_its_buckets_from_being_lost",
        text(leases, "KNOWN_OWNERS", "WHERE", "WHERE false AND"),
    ),
    postgresql(
        "R15 nobody waits for a renewal",
        RACE + "test_a_renewal_under_way_keeps_its_buckets_from_being_lost",
        text(leases, "HOLD_OWNERS", "SKIP LOCKED", ""),
    ),
    postgresql(
        "R15 the worker is held while its buckets are lost",
        RACE + "test_a_renewal_that_comes_during_the_loss_is_granted_nothing",
        text(leases, "HOLD_OWNERS", "FOR UPDATE SKIP LOCKED", ""),
    ),
    postgresql(
        "R15 epoch + 1",
        LOST + "test_marking_again_raises_no_epoch_twice",
        text(leases, "LOSE", "epoch + 1", "epoch"),
    ),
    postgresql(
        "R15 a lost bucket is not clean",
        LOST + "test_an_ended_workers_buckets_are_lost_at_once",
        text(leases, "LOSE", "clean = 0", "clean = clean"),
    ),
    postgresql(
        "R15 drains of dead drainers",
        LOST + "test_the_drain_of_a_dead_drainer_is_lost_too",
        text(leases, "SUSPECTS", "(1, 2, 4)", "(1, 2)"),
    ),
    postgresql(
        "R15 a bucket is lost once",
        LOST + "test_two_coordinators_mark_a_bucket_once",
        text(leases, "HOLD_SUSPECTS", "AND owner IS NOT NULL AND status IN (1, 2, 4)", ""),
    ),
]

RENEWALS = [
    postgresql(
        "R6 numbers",
        LEASE + "test_a_renewal_that_was_overtaken_changes_nothing",
        text(renewal, "PROLONG", "AND n.number >= w.number", ""),
    ),
    postgresql(
        "gone",
        LEASE + "test_an_ended_or_unknown_worker_is_told_that_it_is_gone",
        text(renewal, "PROLONG", "w.ended = 0 AND", ""),
    ),
    postgresql(
        "an overtaken renewal of a worker that was ended",
        RACE + "test_a_newer_boot_that_registers_at_once_ends_the_older_one",
        text(renewal, "OVERTAKEN", "AND ended = 0", ""),
    ),
    postgresql(
        "R7 granted are Active and Completing",
        LEASE + "test_a_bucket_that_is_drained_is_no_grant",
        text(renewal, "GRANTED_OR_FREE", "(1, 2)", "(1, 2, 4)"),
    ),
    postgresql(
        "R8 reconcile",
        LEASE + "test_rows_that_the_worker_does_not_have_are_recovered",
        instead(renewal, "_recover", _nothing),
    ),
    postgresql(
        "nobody died where the worker lives",
        LEASE + "test_lost_replies_never_quarantine",
        instead(recover, "blame_on", _unless_heard),
    ),
    postgresql(
        "R8 cut",
        LEASE + "test_rows_written_after_the_worker_counted_are_left_alone",
        both(
            text(renewal, "FORGOTTEN", "j.touched_us < b.cut_us", "true"),
            text(renewal, "HOLD_FORGOTTEN", "j.touched_us < f.cut_us", "true"),
        ),
    ),
    postgresql(
        "R8 judged again when the row is held",
        RACE + "test_a_start_under_way_is_not_recovered_by_a_renewal_that_does_not_know_it",
        text(renewal, "HOLD_FORGOTTEN", "j.touched_us < f.cut_us", "true"),
    ),
    postgresql(
        "R15' epoch + 1",
        LEASE + "test_an_adoption_raises_the_epoch_and_says_when",
        text(renewal, "ADOPT", "epoch + 1", "epoch"),
    ),
    postgresql(
        "R15' lanes",
        LEASE + "test_nobody_adopts_who_does_not_ask_or_stops_or_serves_another_lane",
        instead(renewal, "_worker", _of_every_lane),
    ),
    postgresql(
        "R15' no more than asked for",
        LEASE + "test_no_more_are_adopted_than_were_asked_for_and_never_a_living_ones",
        both(
            text(renewal, "HOLD_FREE", "LIMIT $2", "LIMIT $2 + 9"),
            instead(renewal, "_turns", lambda t: 9 * [t[0].worker]),
        ),
    ),
    postgresql(
        "R15' a bucket is adopted once",
        RACE + "test_of_two_adopters_of_one_bucket_the_second_passes_by",
        text(renewal, "HOLD_FREE", "FOR UPDATE SKIP LOCKED", ""),
    ),
    postgresql(
        "R15' nobody waits for an adoption",
        RACE + "test_of_two_adopters_of_one_bucket_the_second_passes_by",
        text(renewal, "HOLD_FREE", "SKIP LOCKED", ""),
    ),
    postgresql(
        "cancels",
        LEASE + "test_renewals_carry_cancellations_once_and_in_order",
        text(news, "CANCELS", "WHERE", "WHERE false AND"),
    ),
    postgresql(
        "fresh demands",
        LEASE + "test_renewals_carry_the_wishes_of_hungry_workers_to_who_has_such_work",
        text(news, "NEWS", "renewed_us > $4", "renewed_us < $4"),
    ),
    postgresql(
        "who lives",
        LEASE + "test_a_grant_says_how_many_workers_live",
        text(news, "NEWS", "lease_until_us >= $1", "lease_until_us >= 0 AND $1 > 0"),
    ),
]

BUCKETS = [
    postgresql(
        "R5",
        BUCKET + "test_an_opening_that_is_repeated_after_the_bucket_was_lost_is_no_success",
        instead(
            buckets, "BY_TOKENS", buckets.BY_TOKENS.replace("epoch, status, owner", "1::bigint, status, 1::bigint")
        ),
    ),
    postgresql(
        "R5 living workers", BUCKET + "test_an_ended_worker_opens_nothing", instead(buckets, "require_living", _living)
    ),
    postgresql(
        "R5 who opens holds the worker",
        RACE + "test_a_worker_that_is_being_ended_opens_nothing",
        text(buckets, "LIVING", "FOR SHARE", ""),
    ),
    postgresql(
        "one bucket for two producers",
        RACE + "test_two_producers_that_find_no_bucket_get_the_same_one",
        text(buckets, "ALONE", "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared"),
    ),
    postgresql(
        "R15'a 2",
        BUCKET + "test_the_adopter_recovers_what_the_old_owner_had_in_memory",
        text(buckets, "BEFORE", "WHERE", "WHERE false AND"),
    ),
    postgresql(
        "R15'a touched < adopted",
        BUCKET + "test_a_late_recovery_does_not_take_the_adopters_own_rows",
        both(
            text(buckets, "BEFORE", "touched_us < $2", "$2 > 0"),
            text(buckets, "HOLD_BEFORE", "touched_us < $3", "$3 > 0"),
        ),
    ),
    postgresql(
        "R15'a 2 judged again when the rows are held",
        BUCKET + "test_two_recoveries_at_once_count_each_row_once",
        text(
            buckets, "HOLD_BEFORE", "AND bucket = $2 AND status IN (4, 6) AND touched_us < $3", "AND $2 > 0 AND $3 > 0"
        ),
    ),
    postgresql(
        "R16 retire",
        BUCKET + "test_a_retired_bucket_leaves_no_row_behind",
        instead(drain, "recover", _nothing),
    ),
    postgresql(
        "R16 messages that were left",
        DRAIN + "test_a_retirement_loses_no_message_that_was_left",
        instead(drain, "_insert", _stored),
        STANDALONE,
    ),
    postgresql(
        "R16 a retirement holds the agent's half",
        RACE + "test_a_retired_bucket_waits_for_inserts_and_leaves_their_jobs_to_the_master",
        both(text(drain, "HOLD_AGENTS", "FOR UPDATE", ""), text(drain, "DELETE_BUCKET", "WHERE", "WHERE false AND")),
        STANDALONE,
    ),
    postgresql(
        "R16 the same grant",
        DRAIN + "test_asked_again_a_drainer_gets_the_same_bucket",
        text(drain, "DRAINED_BY", "WHERE", "WHERE false AND"),
    ),
    postgresql(
        "R16 the same grant at once",
        RACE + "test_two_drainers_at_once_take_two_buckets",
        text(drain, "HOLD_LIVING", "FOR UPDATE", ""),
    ),
    postgresql(
        "R16 one drainer a bucket",
        RACE + "test_two_drainers_at_once_take_two_buckets",
        text(drain, "HOLD_ABANDONED", "FOR UPDATE SKIP LOCKED", ""),
    ),
    postgresql(
        "R16 abandoned for long enough",
        DRAIN + "test_a_bucket_that_nobody_adopts_for_a_while_is_drained_by_one_worker",
        text(drain, "HOLD_ABANDONED", "left_us <= $2", "$2 > 0"),
    ),
    postgresql(
        "mine(row) of a drain",
        DRAIN + "test_a_drain_takes_no_job_from_its_present_owner",
        instead(State, "mine", lambda *_: True),
    ),
    postgresql(
        "R18 known buckets",
        "test_both_halves.test_a_bucket_that_the_master_knows_is_no_orphan",
        text(drain, "KNOWN", "WHERE", "WHERE false AND"),
    ),
    postgresql(
        "R22' Queued to hold",
        BUCKET + "test_a_bucket_that_is_given_up_waits_open_for_its_next_owner",
        instead(buckets, "hold_rows", _nothing),
    ),
    postgresql(
        "R22' clean only without rows",
        BUCKET + "test_a_bucket_that_is_given_up_is_clean_only_if_nothing_of_it_can_have_a_row",
        text(buckets, "GIVE_UP", "WHEN NOT $3 THEN 0", "WHEN NOT $3 THEN clean"),
    ),
    postgresql(
        "R22' unclean stays unclean",
        BUCKET + "test_a_bucket_that_was_lost_stays_unclean_when_its_next_owner_gives_it_up",
        text(buckets, "GIVE_UP", "ELSE clean", "ELSE 1"),
    ),
    postgresql(
        "R22' messages of rows leave with them",
        BUCKET + "test_a_bucket_that_is_given_up_lets_the_messages_of_its_rows_go",
        instead(buckets, "remove_messages_of", _nothing),
        STANDALONE,
    ),
]

POSTGRESQL_LEASES = [*OWN, *WORKERS, *RENEWALS, *BUCKETS]
