"""Guarded starts beyond the free slots: only where runs end as fast as starts are granted."""

from __future__ import annotations

from jobmaster.engine.starts_ahead import LONGEST_WAIT_S, StartsAhead


def starved(ahead: StartsAhead, now: float) -> int:
    """An answer came, and slots are free again while the next ones are under way."""
    ahead.answered(0.001)
    ahead.slots_waited()
    ahead.look(now)
    return ahead.allowed


def test_nothing_is_asked_for_ahead_of_runs_that_do_not_end() -> None:
    ahead = StartsAhead()
    assert [starved(ahead, 100 + moment / 100) for moment in range(50)] == [0] * 50


def test_it_grows_with_short_runs_and_never_beyond_its_bound() -> None:
    ahead = StartsAhead()
    allowed = []
    for moment in range(10):
        ahead.ended(400, 100 + moment / 100)
        allowed.append(starved(ahead, 100 + moment / 100))
    assert allowed[:4] == [32, 64, 128, 256]
    assert allowed[-1] == 500


def test_at_most_as_many_as_ended_within_the_time_that_a_granted_job_may_wait() -> None:
    ahead = StartsAhead()
    ahead.ended(3, 100)
    assert starved(ahead, 100) == 3
    ahead.ended(1, 100 + 1.5 * LONGEST_WAIT_S)
    assert starved(ahead, 100 + 1.5 * LONGEST_WAIT_S) == 3
    assert starved(ahead, 100 + 4 * LONGEST_WAIT_S) == 0, "none has ended lately"
    ahead.ended(1, 200)
    assert starved(ahead, 200) == 1, "what ended long ago is forgotten"


def test_granted_jobs_that_waited_halve_it_once_for_each_batch_of_answers() -> None:
    ahead = StartsAhead()
    ahead.ended(400, 100)
    assert starved(ahead, 100) == 32
    ahead.answered(0.001)
    for _ in range(3):
        ahead.job_waited(LONGEST_WAIT_S * 2)
    ahead.look(100)
    assert ahead.allowed == 16


def test_it_is_judged_once_for_each_batch_of_answers() -> None:
    ahead = StartsAhead()
    ahead.ended(400, 100)
    ahead.answered(0.001)
    for _ in range(3):
        ahead.slots_waited()
    ahead.look(100)
    assert ahead.allowed == 32


def test_where_answers_take_long_lately_is_twice_as_long() -> None:
    ahead = StartsAhead()
    ahead.ended(20, 100)
    ahead.answered(0.4)
    ahead.answered(0.01)
    ahead.slots_waited()
    ahead.look(101.5)
    assert ahead.allowed == 20, "they ended while their successors were asked for"
    ahead.look(101.7)
    assert ahead.allowed == 0, "none has ended since"


def test_an_answer_that_took_a_minute_is_no_reason_to_ask_for_hundreds() -> None:
    ahead = StartsAhead()
    ahead.ended(20, 100)
    ahead.answered(60.0)
    ahead.slots_waited()
    ahead.look(102.1)
    assert ahead.allowed == 0


def test_where_answers_take_long_granted_jobs_may_wait_longer() -> None:
    ahead = StartsAhead()
    ahead.ended(400, 100)
    ahead.answered(0.2)
    assert starved(ahead, 100) == 32
    ahead.job_waited(0.3)
    ahead.look(100)
    assert ahead.allowed == 32
    ahead.answered(0.2)
    ahead.job_waited(0.5)
    ahead.look(100)
    assert ahead.allowed == 16
