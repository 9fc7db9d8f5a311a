"""Every fault that is due is proven by a test on each store, no mark names an unknown one, and the page is true."""

from __future__ import annotations

import pytest

from tests.faults.catalogue import PAGE, Row, complaints, page, rows
from tests.faults.collected import Case, marked


@pytest.fixture(scope="module")
def found() -> list[Case]:
    return marked()


def test_the_catalogue_has_all_its_rows() -> None:
    ids = [row.id for row in rows()]
    numbers = {"A": 17, "B": 8, "C": 15, "D": 16, "E": 9, "F": 8, "G": 10, "H": 14, "S": 6}
    assert ids == [f"{letter}{number}" for letter, last in numbers.items() for number in range(1, last + 1)]
    assert len(ids) == 103


def test_what_is_due_is_proven(found: list[Case]) -> None:
    assert complaints(rows(), found) == []


def test_the_page_says_what_the_catalogue_says(found: list[Case]) -> None:
    told = "python -m tests.faults.catalogue --write"
    assert PAGE.read_text(encoding="utf-8") == page(rows(), found), f"write it anew: {told}"


def test_complaints_name_what_is_wrong() -> None:
    due, one_store = Row("A1", "s", "f", "o"), Row("A2", "s", "f", "o", stores=("sqlite",))
    owed = Row("A3", "s", "f", "o", owed="issue 5")
    found = [
        Case("test_x.py", "test_x", ("A1",), ("sqlite",)),
        Case("test_x.py", "test_y", ("A2", "A3", "Z9"), ("sqlite",)),
    ]
    unknown, half, narrow, early = complaints([due, one_store, owed], found)
    assert unknown == "test_x.py::test_y is marked with 'Z9', which no row is"
    assert half == "A1 is due, and no test marked with it runs on postgresql"
    assert narrow == "A2 must say why it is proven on ('sqlite',) only"
    assert early.startswith("A3 is owed (issue 5), and tests are marked with it")
