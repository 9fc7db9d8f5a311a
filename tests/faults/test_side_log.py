"""What a fault test counts: runs, late outcomes and recoveries, of a side log and the faults that happened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.score import SCORES, Score
from tests.faults.side_log import (
    Line,
    Strike,
    late_outcomes,
    lines_of,
    recoveries,
    runs_beyond_the_first,
    runs_without_reason,
)

KILL = Strike("kill of a tree", frozenset({1}), 10.0)
FREEZE = Strike("freeze of a tree", frozenset({1}), 10.0)
# a ran to its end before the fault; b and c ran when it came; b began elsewhere after 4 s, c went on where it was.
LOG = """start a 1 1 8.0
end a 1 1 9.0
start b 1 1 9.5
start c 1 1 9.5
start b 2 2 14.0
end b 2 2 15.0
"""


def test_half_a_line_is_none_yet() -> None:
    assert lines_of("start a 1 7 2.5\nend a 1") == [Line("start", "a", 1, 7, 2.5)]


def test_a_job_that_a_kill_hit_recovers_when_it_begins_again() -> None:
    lines = lines_of(LOG)
    assert list(recoveries(lines, [KILL])) == [4.0]
    assert runs_beyond_the_first(lines) == 1
    assert late_outcomes(lines, [KILL]) == 0


def test_a_run_more_has_a_reason_where_one_before_was_struck() -> None:
    lines = lines_of(LOG)
    assert runs_without_reason(lines, {1}) == 0
    assert runs_without_reason(lines, {2}) == 1
    assert runs_without_reason([*lines, Line("start", "a", 2, 2, 16.0)], {1}) == 0
    assert runs_without_reason([*lines, Line("start", "b", 3, 3, 16.0)], {2}) == 1


def test_an_answer_that_is_lost_stops_no_run() -> None:
    assert list(recoveries(lines_of(LOG), [Strike("lose at settle.after", frozenset({1}), 10.0)])) == []


def test_the_end_of_a_frozen_run_came_too_late() -> None:
    lines = lines_of(LOG + "end b 1 1 20.0\nend c 1 1 20.0\n")
    assert late_outcomes(lines, [FREEZE]) == 1
    assert late_outcomes(lines, [KILL, Strike("kill of a tree", frozenset({2}), 16.0)]) == 0


def test_a_score_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SCORES, str(tmp_path / "scores"))
    score = Score("a test", rows=["A9"], store="sqlite")
    score.struck("kill", 3)
    score.accepted += 7
    score.recovered(1.23456)
    score.record(passed=False)
    score.record()
    first, second = [json.loads(line) for line in (tmp_path / "scores").read_text().splitlines()]
    assert (first["rows"], first["struck"], first["recoveries"]) == (["A9"], {"kill": 3}, [1.235])
    assert (first["accepted"], first["passed"], second["passed"]) == (7, False, True)
