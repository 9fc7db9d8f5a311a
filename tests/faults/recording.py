"""For pytest: tests that prove rows of the fault catalogue are chosen, collected, and each has a score.

FAULTS_ROWS and FAULTS_STORES (`A9,C4`, `sqlite`) choose; FAULTS_COLLECTED names a file that what was collected is
written to, FAULTS_SCORES one that each test's score is appended to when it has ended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.faults import score

_score = pytest.StashKey[score.Score]()
_stores = ("memory", "sqlite", "postgresql", "mysql", "mssql", "nats")

LONGEST = 900
"""Seconds that a test may take with the default lease, whatever it says itself."""


def rows_of(item: pytest.Item) -> tuple[str, ...]:
    """The rows of the catalogue that a test says it proves."""
    return tuple(dict.fromkeys(row for mark in item.iter_markers("fault") for row in mark.args))


def stores_of(item: pytest.Item) -> tuple[str, ...]:
    """The stores that a test runs against: of its marks, or else of its parameters' ids."""
    marked = {mark.args[0] for mark in item.iter_markers("backend")}
    if not marked and hasattr(item, "callspec"):
        marked = set(item.callspec.id.split("-"))
    if "pgbouncer" in marked:
        marked.add("postgresql")
    return tuple(store for store in _stores if store in marked)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    rows, stores = _chosen("FAULTS_ROWS"), _chosen("FAULTS_STORES")
    if rows or stores:
        others = [item for item in items if not _fits(item, rows, stores)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if _fits(item, rows, stores)]
    if score.DEFAULTS:
        for item in items:
            item.add_marker(pytest.mark.timeout(LONGEST), append=False)


def pytest_collection_finish(session: pytest.Session) -> None:
    if path := os.environ.get("FAULTS_COLLECTED"):
        cases = [
            {
                "file": item.path.relative_to(session.config.rootpath / "tests").as_posix(),
                "name": getattr(item, "originalname", item.name),
                "rows": rows_of(item),
                "stores": stores_of(item),
            }
            for item in session.items
        ]
        Path(path).write_text(json.dumps(cases), encoding="utf-8")


def _fits(item: pytest.Item, rows: set[str], stores: set[str]) -> bool:
    own = stores_of(item)
    return (not rows or not rows.isdisjoint(rows_of(item))) and (not stores or not own or not stores.isdisjoint(own))


def _chosen(name: str) -> set[str]:
    return set(filter(None, os.environ.get(name, "").replace(",", " ").split()))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if rows := rows_of(item):
        item.stash[_score] = score.Score(item.nodeid, rows=rows, store="+".join(stores_of(item)))
        score.begin(item.stash[_score])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if _score in item.stash and not report.skipped and (report.when == "call" or report.failed):
        item.stash[_score].record(passed=report.passed)
        score.begin(None)
        del item.stash[_score]
    return report
