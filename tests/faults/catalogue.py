"""The fault catalogue (catalogue.toml), the tests that prove it, and docs/faults.md.

python -m tests.faults.catalogue             prints docs/faults.md
python -m tests.faults.catalogue --write     writes it
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.faults.collected import ROOT, Case, marked

ROWS: Final = Path(__file__).with_name("catalogue.toml")
PAGE: Final = ROOT / "docs" / "faults.md"

STORES: Final = ("sqlite", "postgresql")
"""The stores that exist; a row is to be proven on each, unless it says otherwise."""

HEAD: Final = """\
# The fault catalogue

What can happen to a distributed job system, what must be true afterwards, and the tests that make it happen: {rows}
rows; tests prove {proven}, and {owed} are owed. *At most n extra* are runs beyond a job's first; *within the lease* is
10 s by default, and a moment. Promises, and what is measured: [guarantees](guarantees.md).

`make test` runs these tests once, with a lease of a second; `make faults` with the default lease, as often as `N=`
says, and prints a scoreboard (`ROWS=A9,C4` and `STORES=sqlite` choose; all rows once take half an hour): for each row
how many faults were struck, jobs accepted, lost and doubled (both must be 0), runs beyond a job's first, late
outcomes that were refused, and how soon (p50, p99 in seconds) what was struck ran again. Longer campaigns: [what was
measured](guarantees.md#what-was-measured). Real processes, real signals, real servers: `tests/faults`; a proxy that
cuts a connection exactly between a COMMIT and its answer: `tests/servers/fault_proxy`; processes that die or freeze
before or after any call of a store: `jobmaster/crash_points.py`, armed only by an app that says `testing=True`.

This page is written by `python -m tests.faults.catalogue --write`; a test compares it.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One fault.

    Attributes:
        id: A1 to S6.
        section: the heading it stands under.
        fault: what happens.
        outcome: what must be true afterwards.
        stores: where it must be proven.
        why: why not on every store; "" where it is.
        owed: by which issue, or what it waits for; "" if it is due.
    """

    id: str
    section: str
    fault: str
    outcome: str
    stores: tuple[str, ...] = STORES
    why: str = ""
    owed: str = ""


def rows() -> list[Row]:
    """All rows, in the catalogue's order."""
    with ROWS.open("rb") as file:
        sections = tomllib.load(file)
    return list(_rows(sections))


def complaints(catalogue: Sequence[Row], found: Sequence[Case]) -> list[str]:
    """What is wrong between the catalogue and the tests, a sentence each."""
    known = {row.id for row in catalogue}
    wrong = [
        f"{case.test} is marked with {row!r}, which no row is"
        for case in dict.fromkeys(found)
        for row in case.rows
        if row not in known
    ]
    for row in catalogue:
        proven = {store for case in found if row.id in case.rows for store in case.stores}
        if row.owed and proven:
            wrong.append(f"{row.id} is owed ({row.owed}), and tests are marked with it; is it due?")
        if not row.owed and (missing := [store for store in row.stores if store not in proven]):
            wrong.append(f"{row.id} is due, and no test marked with it runs on {' and '.join(missing)}")
        if row.stores != STORES and not row.why:
            wrong.append(f"{row.id} must say why it is proven on {row.stores} only")
    return wrong


def page(catalogue: Sequence[Row], found: Sequence[Case]) -> str:
    """docs/faults.md."""
    owed = sum(bool(row.owed) for row in catalogue)
    lines = [HEAD.format(rows=len(catalogue), proven=len(catalogue) - owed, owed=owed)]
    for section in dict.fromkeys(row.section for row in catalogue):
        own = [row for row in catalogue if row.section == section]
        lines += [
            f"## {own[0].id[0]}. {section}",
            "",
            "| | fault | must be true afterwards | proven by | on |",
            "|---|---|---|---|---|",
            *(_line(row, found) for row in own),
            "",
        ]
    return "\n".join(lines)


def _rows(sections: Mapping[str, Mapping[str, Any]]) -> Iterator[Row]:
    for letter, section in sections.items():
        for number, told in section.items():
            if number != "title":
                stores = tuple(told.get("stores", STORES))
                yield Row(f"{letter}{number}", section["title"], **{**told, "stores": stores})


def _line(row: Row, found: Sequence[Case]) -> str:
    if row.owed:
        return f"| {row.id} | {row.fault} | {row.outcome} | owed: {row.owed} | |"
    tests = "<br>".join(dict.fromkeys(f"`{case.test}`" for case in found if row.id in case.rows))
    stores = ", ".join(row.stores) + (f" ({row.why})" if row.why else "")
    return f"| {row.id} | {row.fault} | {row.outcome} | {tests} | {stores} |"


def main() -> int:
    """Print or write the page; 1 where the catalogue and the tests do not agree."""
    catalogue, found = rows(), marked()
    text = page(catalogue, found)
    if "--write" in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text)
    wrong = complaints(catalogue, found)
    for complaint in wrong:
        print(complaint, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
