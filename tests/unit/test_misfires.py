"""Nobody planned for three days: each policy does what its name says, at no more work than it is worth."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobmaster.model.schedule import Misfire, ScheduleStatus
from jobmaster.rules.series import MOST_STEPS
from tests.unit.planned import AWAKE, HORIZON, KINDS, asleep, moments, planned
from tests.unit.planning_rules import DAY, EPOCH, HOUR, MINUTE, SECOND, Aligned, Answering, Followed, Moments, schedule


class TestThreeDaysAsleep:
    """Each policy does exactly what its name says, at no more work than it is worth."""

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("period", [SECOND, MINUTE, DAY])
    def test_skip_runs_none_of_the_misfires(self, kind: type[Any], period: int) -> None:
        late, _ = asleep(kind(period), 3 * DAY, misfire=Misfire.SKIP)
        assert late == []

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("period", [SECOND, MINUTE, DAY])
    def test_once_runs_the_latest(self, kind: type[Any], period: int) -> None:
        late, _ = asleep(kind(period), 3 * DAY, misfire=Misfire.ONCE)
        assert len(late) == 1
        assert late[0].at_us + 2 * period > AWAKE
        if kind is not Followed:
            assert (late[0].at_us - EPOCH) % period == 0

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(("period", "expected"), [(SECOND, 100), (MINUTE, 100), (DAY, 3)])
    def test_all_runs_the_latest_hundred(self, kind: type[Any], period: int, expected: int) -> None:
        late, _ = asleep(kind(period), 3 * DAY, misfire=Misfire.ALL)
        assert len(late) == expected
        at = sorted(job.at_us for job in late)
        assert {later - earlier for earlier, later in pairwise(at)} <= {period}
        assert at[-1] + 2 * period > AWAKE

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("limit", [1, 7, 900])
    def test_the_limit_of_all_is_exact(self, kind: type[Any], limit: int) -> None:
        late, _ = asleep(kind(SECOND), 3 * DAY, misfire=Misfire.ALL, misfire_limit=limit)
        assert len(late) == limit

    @pytest.mark.parametrize("policy", Misfire)
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("period", [SECOND, MINUTE, DAY])
    def test_nobody_follows_a_quarter_of_a_million_steps(self, policy: Misfire, kind: type[Any], period: int) -> None:
        _, questions = asleep(kind(period), 3 * DAY, misfire=policy)
        assert questions < 2_000 + (MOST_STEPS if kind is Followed else 0)

    @pytest.mark.parametrize(
        ("policy", "expected"), [(Misfire.SKIP, 0), (Misfire.ONCE, 1), (Misfire.ALL, 100)], ids=str
    )
    @pytest.mark.parametrize("minutes", [5, 9, 12, 30])
    def test_a_nap_that_the_plans_outlast_is_judged_by_their_expiry(
        self, policy: Misfire, expected: int, minutes: int
    ) -> None:
        late, _ = asleep(Aligned(SECOND), minutes * MINUTE, misfire=policy, misfire_grace_us=0)
        assert len(late) == expected

    def test_what_is_within_the_grace_is_no_misfire(self) -> None:
        late, _ = asleep(Aligned(SECOND), 5 * MINUTE, misfire=Misfire.SKIP, misfire_grace_us=MINUTE)
        assert len(late) == 60

    @pytest.mark.parametrize("policy", Misfire)
    def test_a_take_over_within_the_grace_plans_all_of_them(self, policy: Misfire) -> None:
        subject = schedule(misfire=policy)
        made = planned(subject, Aligned(SECOND), EPOCH + 50 * SECOND)
        assert moments(made)[:50] == [EPOCH + number * SECOND for number in range(1, 51)]

    @pytest.mark.parametrize("policy", [Misfire.ONCE, Misfire.ALL])
    def test_a_series_that_can_only_be_followed_keeps_its_phase(self, policy: Misfire) -> None:
        subject = schedule(misfire=policy)
        made = planned(subject, Followed(7 * SECOND), EPOCH + 3 * DAY)
        expected = (EPOCH + 3 * DAY) - (3 * DAY) % (7 * SECOND)
        late = [at for at in moments(made) if at <= EPOCH + 3 * DAY]
        assert late[-1] == expected
        assert len(late) == (1 if policy is Misfire.ONCE else 100)
        assert {later - earlier for earlier, later in pairwise(moments(made))} == {7 * SECOND}

    def test_one_that_was_silent_of_late_is_found_further_back(self) -> None:
        """Every second on working days; asleep from Monday to Sunday."""

        def following(moment: datetime) -> datetime:
            at = moment + timedelta(seconds=1)
            quiet = datetime.fromtimestamp((EPOCH + 5 * DAY) / SECOND, UTC)
            return at if at <= quiet else max(at, quiet + timedelta(days=2))

        subject = schedule(misfire=Misfire.ALL, misfire_limit=10)
        made = planned(subject, Answering(following, is_phased=True), EPOCH + 6 * DAY)
        assert moments(made) == [EPOCH + 5 * DAY - number * SECOND for number in range(9, -1, -1)]

    def test_one_decision_for_the_whole_gap(self) -> None:
        made = planned(schedule(misfire=Misfire.SKIP), Aligned(SECOND), EPOCH + 62 * SECOND)
        assert moments(made)[0] == EPOCH + 63 * SECOND

    def test_rules_that_fire_in_bursts_are_looked_back_through(self) -> None:
        """Every second of one minute a day: a look back meets nothing, then much."""
        burst = [EPOCH - DAY * day + second * SECOND for day in range(-9, 9) for second in range(60)]
        rule = Moments(burst)
        subject = schedule(since_us=EPOCH - 8 * DAY, misfire=Misfire.ALL, misfire_limit=70)
        made = planned(subject, rule, EPOCH + 5 * HOUR, horizon_us=HORIZON)
        assert (
            moments(made) == [at for at in burst if at <= EPOCH + 5 * HOUR][-70:]
            or moments(made) == sorted(at for at in burst if at <= EPOCH + 5 * HOUR)[-70:]
        )
        assert rule.questions < 1_000

    @given(
        burst=st.sets(st.integers(1, 100_000), min_size=1, max_size=60),
        limit=st.integers(1, 70),
        now=st.integers(1, 100_000),
    )
    def test_looking_back_finds_what_following_finds(self, burst: set[int], limit: int, now: int) -> None:
        moments_us = [EPOCH + second * SECOND for second in burst]
        subject = schedule(misfire=Misfire.ALL, misfire_limit=limit, misfire_grace_us=0)
        at_us = EPOCH + now * SECOND
        made = planned(subject, Moments(moments_us), at_us, horizon_us=0)
        assert moments(made) == sorted(moment for moment in moments_us if moment <= at_us)[-limit:]

    def test_the_latest_of_a_gap_is_superseded_by_the_next_occurrence(self) -> None:
        made = planned(schedule(), Aligned(DAY), EPOCH + 3 * DAY)
        (job,) = made.occurrences
        assert job.job.envelope.expires_us == job.at_us + DAY

    def test_a_schedule_that_ended_while_asleep_still_runs_its_latest(self) -> None:
        subject = schedule(end_us=EPOCH + DAY)
        made = planned(subject, Aligned(HOUR), EPOCH + 3 * DAY)
        assert moments(made) == [EPOCH + DAY]
        assert made.status is ScheduleStatus.COMPLETED
