"""Which occurrences become jobs, and when a planner must look again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobmaster.model.ids import JobKey
from jobmaster.model.job import Envelope, decode_envelope, encode_envelope
from jobmaster.model.schedule import MOST_OCCURRENCES, Misfire, Overlap, ScheduleStatus, Trigger, occurrence_key
from jobmaster.rules.planning import backfill, finish, parked, plan, run_now
from jobmaster.rules.series import RuleError
from jobmaster.schedules import Never
from tests.unit.planned import AWAKE, HORIZON, KINDS, after, asleep, moments, planned
from tests.unit.planning_rules import (
    DAY,
    EPOCH,
    HOUR,
    MINUTE,
    SECOND,
    Aligned,
    Answering,
    Asked,
    Followed,
    Leaping,
    Moments,
    schedule,
)

KEY = JobKey(b"a run by hand...")


class TestAhead:
    """A cluster that is awake."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_comes_within_the_horizon_is_planned_at_once(self, kind: type[Any]) -> None:
        made = planned(schedule(), kind(MINUTE), EPOCH)
        assert moments(made) == [EPOCH + number * MINUTE for number in range(1, 11)]
        assert made.plan_at_us == EPOCH + HORIZON // 2

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_lies_beyond_is_looked_at_a_horizon_before_it_comes(self, kind: type[Any]) -> None:
        made = planned(schedule(), kind(8 * HOUR), EPOCH)
        assert moments(made) == []
        assert made.plan_at_us == EPOCH + 8 * HOUR - HORIZON

    def test_a_day_is_the_longest_that_nobody_looks(self) -> None:
        assert planned(schedule(), Followed(400 * DAY), EPOCH).plan_at_us == EPOCH + DAY

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_plan_that_nobody_saved_is_made_again_the_same(self, kind: type[Any]) -> None:
        first, again = (planned(schedule(), kind(MINUTE), EPOCH + late) for late in (0, 5 * SECOND))
        assert [job.job.key for job in first.occurrences] == [job.job.key for job in again.occurrences]
        assert [job.job.due_us for job in first.occurrences] == [job.job.due_us for job in again.occurrences]

    @given(
        kind=st.sampled_from(KINDS),
        period=st.sampled_from([SECOND, 7 * SECOND, MINUTE, 11 * MINUTE, HOUR]),
        pauses=st.lists(st.integers(0, HORIZON // 2), max_size=8),
    )
    def test_pass_by_pass_every_occurrence_comes_once(self, kind: type[Any], period: int, pauses: list[int]) -> None:
        subject, rule, now, seen = schedule(), kind(period), EPOCH, []
        for pause in pauses:
            made = planned(subject, rule, now)
            seen += moments(made)
            subject, now = after(subject, made), now + pause
        assert seen == [EPOCH + period * number for number in range(1, len(seen) + 1)]
        if pauses:
            assert len(seen) >= (now - pauses[-1] + HORIZON - EPOCH) // period

    def test_one_pass_has_a_bound_and_the_next_comes_in_time(self) -> None:
        rule = Followed(SECOND // 10)
        made = planned(schedule(), rule, EPOCH)
        assert len(made.occurrences) == MOST_OCCURRENCES
        assert made.new_cursor_us == EPOCH + 90 * SECOND
        assert made.plan_at_us == EPOCH + 45 * SECOND
        more = planned(after(schedule(), made), rule, made.plan_at_us or 0)
        assert moments(more)[0] == EPOCH + 90 * SECOND + SECOND // 10

    def test_a_rule_that_fires_every_microsecond_does_not_plan_for_ever(self) -> None:
        made = planned(schedule(), Followed(1), EPOCH + SECOND)
        assert len(made.occurrences) == MOST_OCCURRENCES
        assert made.plan_at_us == EPOCH + SECOND + SECOND // 4

    def test_a_rule_without_a_phase_is_asked_nothing_twice(self) -> None:
        made = planned(schedule(), Aligned(8 * HOUR), EPOCH)
        assert made.new_cursor_us == EPOCH + HORIZON

    def test_a_series_goes_on_from_its_last_occurrence_not_from_the_horizon(self) -> None:
        made = planned(schedule(), Leaping(7 * MINUTE), EPOCH)
        assert made.new_cursor_us == EPOCH + 7 * MINUTE
        nothing = planned(schedule(), Leaping(DAY), EPOCH)
        assert nothing.new_cursor_us is None

    def test_a_store_clock_that_was_set_back_repeats_nothing(self) -> None:
        subject = after(schedule(), planned(schedule(), Aligned(MINUTE), EPOCH))
        made = planned(subject, Aligned(MINUTE), EPOCH - HOUR)
        assert moments(made) == []
        assert made.new_cursor_us == subject.cursor_us


class TestStartAndEnd:
    def test_an_occurrence_exactly_at_the_start_counts(self) -> None:
        made = planned(schedule(start_us=EPOCH + 2 * MINUTE), Aligned(MINUTE), EPOCH)
        assert moments(made)[0] == EPOCH + 2 * MINUTE

    def test_a_series_counts_from_its_start(self) -> None:
        made = planned(schedule(start_us=EPOCH + MINUTE + 1), Leaping(MINUTE), EPOCH)
        assert moments(made)[0] == EPOCH + 2 * MINUTE + 1

    def test_a_start_far_away_is_waited_for(self) -> None:
        subject = schedule(start_us=EPOCH + HOUR)
        for rule in (Aligned(MINUTE), Leaping(MINUTE)):
            made = planned(subject, rule, EPOCH)
            assert moments(made) == []
            later = planned(after(subject, made), rule, made.plan_at_us or 0, horizon_us=2 * HORIZON)
            assert moments(later)[0] == EPOCH + HOUR + (MINUTE if rule.is_phased else 0)

    def test_a_start_that_has_passed_brings_nothing_of_the_past(self) -> None:
        made = planned(schedule(start_us=EPOCH - DAY), Aligned(MINUTE), EPOCH)
        assert moments(made)[0] == EPOCH + MINUTE

    def test_an_occurrence_exactly_at_the_end_is_the_last(self) -> None:
        made = planned(schedule(end_us=EPOCH + 3 * MINUTE), Aligned(MINUTE), EPOCH)
        assert moments(made)[-1] == EPOCH + 3 * MINUTE
        assert made.occurrences[-1].job.envelope.expires_us is None, "nothing comes that supersedes it"

    def test_it_is_completed_when_its_last_occurrence_has_come(self) -> None:
        subject = schedule(end_us=EPOCH + 3 * MINUTE)
        made = planned(subject, Aligned(MINUTE), EPOCH)
        assert (made.status, made.plan_at_us) == (ScheduleStatus.ACTIVE, EPOCH + 3 * MINUTE)
        at_the_end = planned(after(subject, made), Aligned(MINUTE), EPOCH + 3 * MINUTE)
        assert (at_the_end.status, at_the_end.plan_at_us) == (ScheduleStatus.COMPLETED, None)

    def test_it_stays_active_in_between_however_often_somebody_looks(self) -> None:
        rule = Moments([EPOCH + MINUTE, EPOCH + 3 * MINUTE])
        subject = after(schedule(), planned(schedule(), rule, EPOCH))
        made = planned(subject, rule, EPOCH + 2 * MINUTE)
        assert (made.status, made.plan_at_us, moments(made)) == (ScheduleStatus.ACTIVE, EPOCH + 3 * MINUTE, [])

    def test_a_rule_that_never_fires_is_completed_at_once(self) -> None:
        made = planned(schedule(), Moments([]), EPOCH)
        assert (made.status, made.plan_at_us, made.occurrences) == (ScheduleStatus.COMPLETED, None, [])

    def test_an_end_before_the_start_is_completed_at_once(self) -> None:
        made = planned(schedule(start_us=EPOCH + HOUR, end_us=EPOCH + MINUTE), Aligned(MINUTE), EPOCH)
        assert made.status is ScheduleStatus.COMPLETED


class TestJobs:
    def test_a_job_carries_its_schedule_and_its_moment(self) -> None:
        template = encode_envelope(
            Envelope(task="old", call=b"call", created_us=0, scheduled_us=0, metadata={"a": 1}, max_retries=2)
        )
        subject = schedule(template=template, task="new", lane="mail", priority=5)
        job = planned(subject, Aligned(MINUTE), EPOCH).occurrences[0].job
        assert job.key == occurrence_key(subject.key, EPOCH + MINUTE)
        assert decode_envelope(job.payload) == job.envelope
        envelope = job.envelope
        assert (envelope.task, envelope.lane, envelope.priority) == ("new", "mail", 5)
        assert (envelope.call, envelope.metadata, envelope.max_retries) == (b"call", {"a": 1}, 2)
        assert (envelope.schedule, envelope.trigger, envelope.overlap) == (subject.key, Trigger.SCHEDULE, 0)
        assert (envelope.scheduled_us, job.due_us, job.verify) == (EPOCH + MINUTE, EPOCH + MINUTE, False)

    @pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.QUEUE, Overlap.CANCEL_PREVIOUS])
    def test_what_must_not_overlap_starts_by_a_guarded_write(self, overlap: Overlap) -> None:
        job = planned(schedule(overlap=overlap), Aligned(MINUTE), EPOCH).occurrences[0].job
        assert job.verify
        assert job.envelope.overlap == overlap

    def test_jitter_is_the_same_whoever_plans_and_spreads_over_its_span(self) -> None:
        rule, subject = Aligned(SECOND), schedule(jitter_us=30 * SECOND)
        late = [(job.job.due_us or 0) - job.at_us for job in planned(subject, rule, EPOCH).occurrences]
        assert late == [(job.job.due_us or 0) - job.at_us for job in planned(subject, rule, EPOCH + 1).occurrences]
        assert min(late) >= 0
        assert max(late) <= 30 * SECOND
        assert 12 * SECOND < sum(late) / len(late) < 18 * SECOND

    def test_a_jittered_job_gets_its_grace_from_when_it_is_due(self) -> None:
        subject = schedule(jitter_us=10 * MINUTE, misfire=Misfire.SKIP)
        for job in planned(subject, Aligned(MINUTE), EPOCH).occurrences:
            assert job.job.envelope.expires_us == (job.job.due_us or 0) + MINUTE

    @pytest.mark.parametrize(
        ("policy", "period", "lives"),
        [
            (Misfire.SKIP, SECOND, MINUTE),
            (Misfire.SKIP, 5 * MINUTE, MINUTE),
            (Misfire.ONCE, SECOND, MINUTE),
            (Misfire.ONCE, 5 * MINUTE, 5 * MINUTE),
            (Misfire.ALL, SECOND, 100 * SECOND),
            (Misfire.ALL, 5 * MINUTE, 500 * MINUTE),
        ],
    )
    def test_a_planned_job_lives_until_newer_ones_have_its_place(
        self, policy: Misfire, period: int, lives: int
    ) -> None:
        for job in planned(schedule(misfire=policy), Aligned(period), EPOCH).occurrences:
            assert job.job.envelope.expires_us == job.at_us + lives

    def test_an_expiry_of_the_template_counts_from_each_occurrence(self) -> None:
        template = encode_envelope(
            Envelope(task="t", call=b"", created_us=5, scheduled_us=5, expires_us=5 + 20 * SECOND)
        )
        job = planned(schedule(template=template, misfire=Misfire.ALL), Aligned(MINUTE), EPOCH).occurrences[0]
        assert job.job.envelope.expires_us == job.at_us + 20 * SECOND
        now = run_now(schedule(template=template), EPOCH, key=KEY)
        assert now.job.envelope.expires_us == EPOCH + 20 * SECOND


class TestNever:
    def test_a_schedule_that_only_people_start_has_no_end(self) -> None:
        made = planned(schedule(), Never(), EPOCH)
        assert (made.occurrences, made.plan_at_us, made.status) == ([], None, ScheduleStatus.ACTIVE)


class TestLargeJobs:
    def test_a_plan_holds_four_megabytes_of_arguments_at_most(self) -> None:
        template = encode_envelope(Envelope(task="t", call=b"x" * 1_000_000, created_us=0, scheduled_us=0))
        subject, rule, seen, now = schedule(template=template), Aligned(SECOND), [], EPOCH
        for _ in range(5):
            made = planned(subject, rule, now)
            assert 1 <= len(made.occurrences) <= 4
            assert (made.plan_at_us or 0) < made.occurrences[-1].at_us
            seen += moments(made)
            subject, now = after(subject, made), made.plan_at_us or 0
        assert seen == [EPOCH + number * SECOND for number in range(1, len(seen) + 1)]

    def test_what_was_missed_comes_in_pieces_and_whole(self) -> None:
        template = encode_envelope(Envelope(task="t", call=b"x" * 1_000_000, created_us=0, scheduled_us=0))
        for kind in (Aligned, Leaping):
            late, _ = asleep(kind(MINUTE), 3 * DAY, misfire=Misfire.ALL, misfire_limit=10, template=template)
            assert sorted(job.at_us for job in late) == [AWAKE - number * MINUTE for number in range(9, -1, -1)]


class TestBesideThePlan:
    def test_a_backfill_makes_the_jobs_of_the_range_with_both_ends(self) -> None:
        subject = schedule()
        made = finish(
            backfill(subject, Aligned(HOUR), from_us=EPOCH - 3 * HOUR, until_us=EPOCH, now_us=EPOCH + MINUTE, most=100)
        )
        assert [job.at_us for job in made] == [EPOCH - hours * HOUR for hours in (3, 2, 1, 0)]
        assert made[0].job.key == occurrence_key(subject.key, EPOCH - 3 * HOUR)
        assert {job.job.envelope.trigger for job in made} == {Trigger.BACKFILL}
        assert {job.job.envelope.expires_us for job in made} == {None}
        assert [job.job.due_us for job in made] == [job.at_us for job in made]

    def test_a_backfill_is_bounded_and_of_the_past(self) -> None:
        made = finish(
            backfill(
                schedule(), Aligned(SECOND), from_us=EPOCH - MINUTE, until_us=EPOCH + DAY, now_us=EPOCH, most=1_000
            )
        )
        assert len(made) == 61
        few = finish(backfill(schedule(), Followed(SECOND), from_us=0, until_us=EPOCH, now_us=EPOCH, most=7))
        assert [job.at_us for job in few] == [number * SECOND for number in range(1, 8)]

    @pytest.mark.parametrize("overlap", list(Overlap))
    def test_every_run_of_a_backfill_runs_whatever_overlaps(self, overlap: Overlap) -> None:
        subject = schedule(overlap=overlap)
        made = finish(
            backfill(subject, Aligned(HOUR), from_us=EPOCH - 3 * HOUR, until_us=EPOCH, now_us=EPOCH, most=100)
        )
        wanted = Overlap.ALLOW if overlap is Overlap.ALLOW else Overlap.QUEUE
        assert {job.job.envelope.overlap for job in made} == {wanted}
        assert {job.job.verify for job in made} == {overlap is not Overlap.ALLOW}

    def test_a_series_is_backfilled_on_its_beat(self) -> None:
        made = finish(
            backfill(
                schedule(), Followed(HOUR), begin_us=EPOCH - 9 * HOUR, from_us=EPOCH - 3 * HOUR - MINUTE,
                until_us=EPOCH - MINUTE, now_us=EPOCH, most=100,
            )
        )  # fmt: skip
        assert [job.at_us for job in made] == [EPOCH - hours * HOUR for hours in (3, 2, 1)]

    def test_a_run_now_is_a_run_of_its_own(self) -> None:
        subject = schedule(overlap=Overlap.SKIP)
        made = run_now(subject, EPOCH + MINUTE, key=KEY, custom_id="mine")
        assert made.trigger is Trigger.RUN_NOW
        assert (made.job.key, made.job.envelope.custom_id) == (KEY, "mine")
        assert (made.job.due_us, made.job.verify) == (EPOCH + MINUTE, True)
        assert made.job.envelope.trigger == Trigger.RUN_NOW


class TestBrokenRules:
    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (lambda moment: moment, "not later"),
            (lambda moment: moment.replace(year=1999), "not later"),
            (lambda moment: moment.replace(tzinfo=None, year=2050), "no time zone"),
        ],
    )
    @pytest.mark.parametrize("is_phased", [False, True])
    def test_a_rule_that_breaks_its_promise_is_told_so(self, answer: Any, words: str, is_phased: bool) -> None:
        with pytest.raises(RuleError, match=words):
            planned(schedule(), Answering(answer, is_phased=is_phased), EPOCH)

    @pytest.mark.parametrize("wrong", [[DAY], [2 * HOUR, HOUR], [-HOUR]])
    def test_so_is_a_leap_out_of_order_or_out_of_range(self, wrong: list[int]) -> None:
        rule = Leaping(SECOND)
        now = EPOCH + 3 * HOUR
        answers = [datetime.fromtimestamp((EPOCH + at) / 1e6, UTC) for at in wrong]
        rule.latest = lambda after, until, count: answers  # type: ignore[method-assign]
        with pytest.raises(RuleError, match="out of"):
            planned(schedule(), rule, now)

    def test_beyond_the_year_9999_there_is_nothing(self) -> None:
        late = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-8)))
        made = planned(schedule(), Answering(lambda moment: late), EPOCH)
        assert made.status is ScheduleStatus.COMPLETED
        last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
        at_us = round(last.timestamp()) * SECOND
        made = planned(schedule(since_us=at_us - HOUR), Moments([at_us]), at_us - MINUTE)
        assert moments(made) == [at_us]

    def test_its_own_error_comes_through(self) -> None:
        def answer(moment: datetime) -> datetime:
            raise ZeroDivisionError("no such month")

        with pytest.raises(ZeroDivisionError):
            planned(schedule(), Answering(answer), EPOCH)

    def test_a_parked_schedule_keeps_all_but_its_turn(self) -> None:
        subject = schedule(cursor_us=EPOCH, version=4)
        made = parked(subject, ZeroDivisionError("no such month"))
        assert (made.version, made.cursor_us, made.new_cursor_us, made.plan_at_us) == (4, EPOCH, EPOCH, None)
        assert (made.status, made.error) == (ScheduleStatus.ACTIVE, "ZeroDivisionError: no such month")
        assert len(parked(subject, ValueError("x" * 10_000)).error) == 500


def test_each_question_is_a_step() -> None:
    """The event loop may turn between any two of them."""
    rule: Asked = Aligned(SECOND)
    steps, most = plan(schedule(misfire=Misfire.ALL), rule, now_us=EPOCH + 3 * DAY, horizon_us=HORIZON), 0
    before = 0
    for _ in steps:
        most, before = max(most, rule.questions - before), rule.questions
    assert most == 1
