"""Every occurrence runs once, whatever happens to the planners; wall clocks are asked by nobody."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest
from msgspec.structs import replace

from jobmaster.model.schedule import Schedule
from jobmaster.rules.planning import plan
from tests.simulation.schedules import accept, tell

STORIES, STRIKES = 5, 40


@pytest.fixture(autouse=True)
def _bury_what_a_story_leaves():
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    yield
    gc.collect()
    sys.unraisablehook = hook


def test_planners_killed_paused_and_cut_off_200_times_miss_nothing_and_double_nothing(capsys):
    stories = [tell(seed, strikes=STRIKES) for seed in range(1, STORIES + 1)]
    late = sorted(seconds for told in stories for seconds in told.lateness)
    with capsys.disabled():
        p50, p90, p99 = (late[int(len(late) * share)] for share in (0.5, 0.9, 0.99))
        print(
            f"\n{len(late)} occurrences: p50 {p50:.3f} s late, p90 {p90:.1f} s, p99 {p99:.1f} s, worst {late[-1]:.1f} s"
        )
    assert sum(told.strikes for told in stories) == 200
    assert [told.missed for told in stories] == [[]] * STORIES
    assert [told.doubled for told in stories] == [[]] * STORIES
    assert [told.violations for told in stories] == [{}] * STORIES
    assert min(told.expected for told in stories) > 100


def test_a_planner_that_went_on_from_now_instead_of_the_cursor_would_be_found_out(monkeypatch):
    def from_now(schedule: Schedule, rule: Any, *, now_us: int, horizon_us: int) -> Any:
        later = replace(schedule, cursor_us=max(schedule.cursor_us or 0, now_us))
        made = yield from plan(later, rule, now_us=now_us, horizon_us=horizon_us)
        return replace(made, cursor_us=schedule.cursor_us)

    monkeypatch.setattr("jobmaster.engine.planner.plan", from_now)
    assert tell(1, strikes=STRIKES).missed


def test_wall_clocks_that_jump_by_an_hour_change_nothing():
    stepped, steady = tell(3, clock_steps=True), tell(3)
    assert stepped.strikes == 6
    for told in (stepped, steady):
        assert (told.missed, told.doubled, told.violations) == ([], [], {})
        assert max(told.lateness) < 0.1
    assert stepped.lateness == steady.lateness, "not even in the order of things"


@pytest.mark.parametrize(
    ("text", "lasts", "period", "expected"),
    [("00:00:05", 60, 5, 12), ("00:00:10", 120, 10, 12), ("00:01:00", 300, 60, 5)],
)
def test_the_recurring_acceptance_run(text: str, lasts: float, period: float, expected: int) -> None:
    """Expected jobs within one, mean interval within 2 %, none twice, none left."""
    told = accept(text, lasts=lasts)
    assert abs(told.jobs - expected) <= 1
    assert told.succeeded == told.jobs
    assert told.interval == pytest.approx(period, rel=0.02)
    assert told.pace == pytest.approx(period, rel=0.02)
    assert told.worst < 0.1
    assert len(told.schedules) == 1
    assert told.overdue == 0
    assert told.violations == {}
