"""docs/guarantees.md names tests that exist, on the stores that they run on, and is what guarantees.toml says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults import guarantees
from tests.faults.collected import Case
from tests.faults.guarantees import complaints, load, page, promises, proofs, publish, published


@pytest.fixture(scope="module")
def found() -> list[Case]:
    return proofs(load())


def test_every_promise_is_proven_or_says_why_not(found: list[Case]) -> None:
    assert complaints(load(), found) == []


def test_the_page_says_what_was_written_down(found: list[Case]) -> None:
    told = "python -m tests.faults.guarantees --write"
    text = guarantees.PAGE.read_text(encoding="utf-8")
    assert text == page(load(), found, published()), f"write it anew: {told}"


def test_the_promises_of_the_protocol_are_all_there() -> None:
    ids = [promise["id"] for promise in promises(load())]
    assert {f"Promise {number}" for number in range(1, 9)} <= set(ids)
    assert {f"I{number}" for number in range(1, 11)} <= set(ids)
    assert len(ids) == len(set(ids))


def test_complaints_name_what_is_wrong() -> None:
    told = {
        "target": {"kills": "..."},
        "section": [
            {
                "title": "s",
                "promise": [
                    {"id": "P1", "text": "t", "tests": ["a.py::test_a", "a.py::test_gone"]},
                    {"id": "P2", "text": "t"},
                    {"id": "P3", "text": "t", "tests": ["a.py::test_b"], "sqlite": "no", "measured": ["races"]},
                ],
            }
        ],
    }
    found = [Case("a.py", "test_a", (), ("sqlite",)), Case("a.py", "test_b", (), ())]
    assert complaints(told, found) == [
        "P1: there is no test a.py::test_gone",
        "P1 is neither proven nor excused on postgresql",
        "P2 has either tests or says by what it is owed",
        "P3 is proven and excused on sqlite",
        "P3: no campaign races",
    ]


def test_figures_of_campaigns_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarantees, "PUBLISHED", tmp_path / "published.json")
    scores = tmp_path / "scores.jsonl"
    line = {"campaign": "kills", "store": "sqlite", "struck": {"tree": 25}, "accepted": 40_000, "lost": 0, "doubled": 0}
    scores.write_text(json.dumps({**line, "accepted": 1}) + "\n" + json.dumps({**line, "restart": {"p99": 2.5}}) + "\n")
    publish([scores], "a machine")
    text = page({"target": {"kills": "fifty kills", "soak": "flat"}, "section": []}, [], published())
    assert "Measured on a machine." in text
    assert "### kills\n\nFifty kills.\n" in text
    assert "| SQLite | 25 tree | 40,000 | 0 | 0 |  | restart p99 2.5 |" in text
    assert text.rstrip().endswith("### soak\n\nFlat.\n\nNot measured yet.")
