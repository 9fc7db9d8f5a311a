"""The scoreboard adds up what tests and campaigns have counted, by row, by store and in all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.scoreboard import campaign_names, main, misses, read, summarized

LINES = [
    {"name": "a", "rows": ["A9", "A10"], "store": "sqlite", "struck": {"kill": 2}, "accepted": 10, "extra_runs": 1,
     "recoveries": [1.0, 3.0]},
    {"name": "a", "rows": ["A9"], "store": "sqlite", "struck": {"kill": 1}, "accepted": 5, "recoveries": [2.0]},
    {"name": "a", "rows": ["A9"], "store": "postgresql", "struck": {}, "accepted": 5, "passed": False, "lost": 1},
    {"campaign": "kills", "store": "sqlite", "struck": {"tree": 50}, "accepted": 100, "restart": {"p99": 2.5}},
]  # fmt: skip


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    path = tmp_path / "scores.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return path


def test_the_board_is_added_up(scores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--show", str(scores)]) == 0
    head, *lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head[:4] == ["store", "tests", "failed", "faults"]
    assert lines == [
        ["A9", "sqlite", "2", "0", "3", "15", "0", "0", "1", "0", "3", "2.0", "3.0"],
        ["A9", "postgresql", "1", "1", "0", "5", "1", "0", "0", "0", "0"],
        ["A10", "sqlite", "1", "0", "2", "10", "0", "0", "1", "0", "2", "1.0", "3.0"],
        ["kills", "sqlite", "1", "0", "50", "100", "0", "0", "0", "0", "0"],
        ["all", "sqlite", "3", "0", "53", "115", "0", "0", "1", "0", "3", "2.0", "3.0"],
        ["all", "postgresql", "1", "1", "0", "5", "1", "0", "0", "0", "0"],
    ]


def test_the_summary_keeps_what_campaigns_measured(scores: Path) -> None:
    told = summarized(read(scores))
    assert told["kills"]["sqlite"]["restart"] == {"p99": 2.5}
    assert told["A9"]["sqlite"]["struck"] == {"kill": 3}
    assert (told["all"]["postgresql"]["failed"], told["all"]["postgresql"]["lost"]) == (1, 1)


def test_campaigns_that_failed_or_missed_their_targets_are_named() -> None:
    told = [{**LINES[3], "passed": True, "missed": missed} for missed in ([], ["500 accepts/s", "20,000 waiting"])]
    told.append({"campaign": "soak", "store": "sqlite", "passed": False})
    assert list(misses([*told, LINES[2]])) == [
        "kills on sqlite missed: 500 accepts/s, 20,000 waiting.",
        "soak on sqlite failed.",
    ]


def test_a_campaign_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no campaign kils\. There are adoption, kills, outage"):
        main(["--rows", "none", "--campaigns", "kils,outage", "--into", str(tmp_path)])


def test_every_campaign_is_known() -> None:
    assert {"kills", "zombies", "replies"} <= set(campaign_names())
    assert "setting" not in campaign_names()
