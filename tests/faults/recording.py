"""For pytest: each test that proves rows of the catalogue has a score, which is recorded when the test has ended."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.faults import score

_score = pytest.StashKey[score.Score]()
_stores = ("sqlite", "postgresql", "mysql", "mssql", "nats")

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
    return tuple(store for store in _stores if store in marked)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if score.DEFAULTS:
        for item in items:
            item.add_marker(pytest.mark.timeout(LONGEST), append=False)


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
