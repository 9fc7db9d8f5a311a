"""The pure rules, exhaustively where the space is small."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable

import pytest

from jobmaster.model.backoff import Backoff
from jobmaster.model.ids import JobKey, key_text, new_job_key, parse_key
from jobmaster.model.job import Blame
from jobmaster.model.reasons import QUARANTINED, WORKER_LOST
from jobmaster.model.run import End, Ended
from jobmaster.model.states import BUCKET_MOVES, FINAL_VALUES, JOB_MOVES, BucketStatus, JobStatus, Priority
from jobmaster.rules.recovery import (
    blamed,
    first_suspects,
    is_hopeless,
    quarantine_error,
    recovered,
    runs_apart,
)
from jobmaster.rules.retry import after, backoff_us
from jobmaster.rules.slots import WEIGHTS, Shares

BACKOFF = Backoff(base=5, factor=2, cap=60, jitter=False)


def end(kind: End, **fields: object) -> Ended:
    return Ended(kind, **fields)  # type: ignore[arg-type]


def decide(ended: Ended, *, failures: int = 0, max_retries: int = 3):
    return after(ended, failures=failures, max_retries=max_retries, backoff=BACKOFF, random=lambda: 0.5)


class TestStates:
    def test_final_statuses_have_no_moves_and_others_do(self) -> None:
        for status in JobStatus:
            assert bool(JOB_MOVES[status]) != status.is_final
        assert {status.value for status in JobStatus if status.is_final} == set(FINAL_VALUES)

    def test_every_status_of_a_bucket_can_be_reached_and_has_a_way_out(self) -> None:
        reached = set(itertools.chain.from_iterable(BUCKET_MOVES.values())) | {BucketStatus.ACTIVE}
        assert reached == set(BucketStatus)
        assert [status for status, moves in BUCKET_MOVES.items() if not moves] == [BucketStatus.READY_TO_DELETE]

    @pytest.mark.parametrize(
        ("status", "name"), [(JobStatus.HELD_ON_MASTER, "HeldOnMaster"), (JobStatus.SUCCEEDED, "Succeeded")]
    )
    def test_a_status_reads_as_people_write_it(self, status: JobStatus, name: str) -> None:
        assert str(status) == name


class TestIds:
    def test_keys_are_version_7_ordered_by_time_and_different(self) -> None:
        keys = [new_job_key() for _ in range(2000)]
        assert len(set(keys)) == 2000
        assert all(key_text(key)[14] == "7" and key_text(key)[19] in "89ab" for key in keys)
        millis = [key[:6] for key in keys]
        assert millis == sorted(millis)

    def test_a_uuid_is_its_own_key_and_any_other_text_keeps_beside_a_derived_one(self) -> None:
        key = new_job_key()
        assert parse_key(key_text(key)) == (key, None)
        custom, text = parse_key("order-17")
        assert text == "order-17"
        assert parse_key("order-17") == (custom, "order-17")
        assert parse_key("order-18")[0] != custom


def chosen(shares: Shares, priorities: Iterable[int]) -> int:
    best = shares.next_of(sorted(-priority for priority in priorities))
    shares.count(best)
    return best


class TestShares:
    def test_saturated_priorities_share_by_weight(self) -> None:
        shares = Shares()
        counts = Counter(chosen(shares, WEIGHTS) for _ in range(20_000))
        for priority, weight in WEIGHTS.items():
            assert counts[priority] / 20_000 == pytest.approx(weight / 20, abs=0.001)

    def test_a_very_low_job_that_joins_late_waits_for_at_most_a_round(self) -> None:
        shares = Shares()
        for _ in range(1000):
            chosen(shares, [Priority.CRITICAL])
        shares.joined(Priority.VERY_LOW)
        turns = [chosen(shares, [Priority.VERY_LOW, Priority.CRITICAL]) for _ in range(4)]
        assert Priority.VERY_LOW in turns

    def test_idleness_earns_no_credit(self) -> None:
        shares = Shares()
        for _ in range(1000):
            chosen(shares, [Priority.CRITICAL])
        shares.joined(Priority.VERY_LOW)
        turns = Counter(chosen(shares, [Priority.VERY_LOW, Priority.CRITICAL]) for _ in range(800))
        assert turns[Priority.VERY_LOW] == pytest.approx(200, abs=3)


class TestRetry:
    @pytest.mark.parametrize(
        ("kind", "status", "reason"),
        [
            (End.RETURNED, JobStatus.SUCCEEDED, ""),
            (End.IGNORED, JobStatus.SUCCEEDED, "ignored"),
            (End.REJECTED, JobStatus.FAILED, "rejected"),
            (End.CANCELLED, JobStatus.CANCELLED, ""),
        ],
    )
    def test_ends_that_need_no_retry(self, kind: End, status: JobStatus, reason: str) -> None:
        decision = decide(end(kind))
        assert (decision.status, decision.failures, decision.reason) == (status, 0, reason)

    @pytest.mark.parametrize("kind", [End.RAISED, End.TIMED_OUT, End.RETRY])
    def test_a_failure_is_repeated_until_the_retries_are_spent(self, kind: End) -> None:
        assert decide(end(kind), failures=2).status is JobStatus.HELD_ON_MASTER
        assert decide(end(kind), failures=3).status is JobStatus.FAILED
        assert decide(end(kind), failures=3).failures == 4

    def test_a_process_that_died_spends_no_retry_and_is_not_waited_for(self) -> None:
        assert decide(end(End.CRASHED), failures=3) == (JobStatus.HELD_ON_MASTER, 3, 0, "worker lost")

    def test_delays_grow_by_the_factor_up_to_the_cap(self) -> None:
        delays = [backoff_us(BACKOFF, failures=n, random=lambda: 1.0) / 1e6 for n in range(1, 7)]
        assert delays == [5, 10, 20, 40, 60, 60]

    def test_a_huge_number_of_failures_does_not_overflow(self) -> None:
        assert backoff_us(BACKOFF, failures=10_000, random=lambda: 1.0) == 60_000_000

    def test_full_jitter_is_uniform_between_nothing_and_the_delay(self) -> None:
        jittered = Backoff(base=8, factor=2, cap=60, jitter=True)
        assert backoff_us(jittered, failures=1, random=lambda: 0.25) == 2_000_000

    def test_retry_with_a_countdown_wins_over_the_back_off(self) -> None:
        assert decide(end(End.RETRY, countdown=1.5)).delay_us == 1_500_000
        assert decide(end(End.RETRY, countdown=0.0)).delay_us == 0

    def test_retry_may_raise_the_limit_of_this_job(self) -> None:
        assert decide(end(End.RETRY, max_retries=9), failures=5).status is JobStatus.HELD_ON_MASTER

    def test_what_the_task_gives_up_on_is_not_repeated(self) -> None:
        assert decide(end(End.RAISED, retryable=False)).status is JobStatus.FAILED

    def test_a_requeued_job_spends_nothing(self) -> None:
        decision = decide(end(End.REQUEUED), failures=3)
        assert (decision.status, decision.failures) == (JobStatus.HELD_ON_MASTER, 3)


class TestRecovery:
    @pytest.mark.parametrize("status", [JobStatus.QUEUED, JobStatus.ASSIGNED_TO_BUCKET, JobStatus.PROCESSING])
    @pytest.mark.parametrize("at_most_once", [False, True])
    @pytest.mark.parametrize("tombstone", [False, True])
    @pytest.mark.parametrize("blame", [None, "", "SIGSEGV"])
    @pytest.mark.parametrize("recoveries", [0, 1, 2, 3, 7, 8, 9])
    def test_every_combination(
        self, *, status: JobStatus, at_most_once: bool, tombstone: bool, blame: str | None, recoveries: int
    ) -> None:
        result = recovered(
            status=status,
            at_most_once=at_most_once,
            recoveries=recoveries,
            tombstone=tombstone,
            blame=blame,
            max_recoveries=3,
        )
        assert result.status in JOB_MOVES[status]
        # No testimony: the row speaks. An excuse (empty): it ran, and is not to blame. Blame: it counts in any case.
        seen_running = (status is JobStatus.PROCESSING and blame is None) or bool(blame)
        if status is JobStatus.PROCESSING and at_most_once:
            assert result == (JobStatus.FAILED, recoveries, WORKER_LOST)
        elif tombstone:
            assert result.status is JobStatus.CANCELLED
        elif seen_running and recoveries >= 8:
            assert result == (JobStatus.FAILED, recoveries + 1, QUARANTINED)
        else:
            assert result == (JobStatus.HELD_ON_MASTER, recoveries + seen_running, "")

    def test_a_waiting_job_is_never_counted_however_often_workers_die_above_it(self) -> None:
        recoveries = 0
        for _ in range(50):
            result = recovered(
                status=JobStatus.QUEUED,
                at_most_once=False,
                recoveries=recoveries,
                tombstone=False,
                blame=None,
                max_recoveries=3,
            )
            recoveries = result.recoveries
        assert (result.status, recoveries) == (JobStatus.HELD_ON_MASTER, 0)

    def test_all_that_ran_are_counted_at_a_death(self) -> None:
        first, second = JobKey(b"1" * 16), JobKey(b"2" * 16)
        assert blamed([first, second], "SIGKILL") == [Blame(first, "SIGKILL"), Blame(second, "SIGKILL")]
        assert blamed([], "SIGKILL") == []

    @pytest.mark.parametrize("reason", ["SIGSEGV", "SIGABRT", "SIGBUS", "exit 3", "exit 0"])
    def test_those_that_began_last_before_a_crash_are_suspects(self, reason: str) -> None:
        ran = [JobKey(bytes([number]) * 16) for number in range(10)]
        assert first_suspects(ran, reason) == ran[-4:]
        assert first_suspects(ran[:2], reason) == ran[:2]
        assert first_suspects([], reason) == []

    @pytest.mark.parametrize("reason", ["SIGKILL", "SIGKILL (out of memory)", "SIGTERM", "event loop blocked for 60 s"])
    def test_who_was_killed_or_held_up_names_no_suspects(self, reason: str) -> None:
        assert first_suspects([JobKey(b"1" * 16)], reason) == []

    @pytest.mark.parametrize(("max_recoveries", "first_apart"), [(0, 1), (1, 1), (2, 1), (3, 2), (4, 3), (20, 19)])
    def test_before_the_last_death_that_counts_a_job_runs_apart(self, max_recoveries: int, first_apart: int) -> None:
        apart = [runs_apart(recoveries, max_recoveries=max_recoveries) for recoveries in range(first_apart + 2)]
        assert apart == [False] * first_apart + [True, True]

    def test_a_job_goes_down_in_crowds_three_times_as_often_as_alone(self) -> None:
        assert [count for count in range(12) if is_hopeless(count, max_recoveries=3)] == [9, 10, 11]
        assert is_hopeless(1, max_recoveries=0), "0: no second chance"

    def test_what_a_quarantined_job_says_names_the_cause_and_the_next_step(self) -> None:
        error = quarantine_error(3, "SIGSEGV")
        assert error.type == "jobmaster.errors.WorkerLostError"
        assert "died 3 times" in error.message
        assert "SIGSEGV" in error.message
        assert "jobmaster jobs retry" in error.message
        assert "nobody saw of what" in quarantine_error(9, "").message
