"""The diagrams and tables of states in docs/architecture.md, made from the transition tables of the code.

python tools/state_diagrams.py            shows what differs, exit code 1 if something does
python tools/state_diagrams.py --write    renews the document
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from jobmaster.model.states import BUCKET_MOVES, JOB_MOVES, BucketStatus, JobStatus

DOCUMENT = Path(__file__).parents[1] / "docs" / "architecture.md"

JOB_MEANING = {
    JobStatus.SAVE_PENDING: "accepted; its message waits in a bucket, and the master has no row yet",
    JobStatus.HELD_ON_MASTER: "waits in the master: for its moment, for a retry, or for a worker",
    JobStatus.ASSIGNED_TO_BUCKET: "has a row, and its message waits in a bucket",
    JobStatus.QUEUED: "in a worker's memory, will start soon",
    JobStatus.PROCESSING: "runs",
    JobStatus.SUCCEEDED: "ended well",
    JobStatus.FAILED: "ended badly: the last attempt failed, or the reason says why it never ran",
    JobStatus.CANCELLED: "was cancelled",
}
BUCKET_MEANING = {
    BucketStatus.ACTIVE: "takes messages; its owner runs them, or it waits to be adopted",
    BucketStatus.COMPLETING: "takes no new messages; its owner empties it",
    BucketStatus.LOST: "its owner is gone; a live worker of the same lane adopts it",
    BucketStatus.READY_TO_DRAIN: "nobody adopted it",
    BucketStatus.DRAINING: "its messages are being moved to the master",
    BucketStatus.READY_TO_DELETE: "empty, will be deleted",
}


def diagram(moves: Mapping[Enum, frozenset[Enum]], first: Enum) -> str:
    """A mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    for status in sorted(moves, key=_life_order(moves)):
        lines += [f"    {status} --> {target}" for target in sorted(moves[status], key=lambda one: one.value)]
        if not moves[status]:
            lines.append(f"    {status} --> [*]")
    return "\n".join([*lines, "```"])


def table(moves: Mapping[Enum, frozenset[Enum]], meaning: Mapping[Enum, str]) -> str:
    """One row per status: name, number, meaning, what it may become."""
    rows = ["| status | number | meaning | may become |", "|---|---|---|---|"]
    for status in sorted(moves, key=_life_order(moves)):
        targets = ", ".join(str(target) for target in sorted(moves[status], key=lambda one: one.value))
        rows.append(f"| {status} | {status.value} | {meaning[status]} | {targets or 'nothing: this is the end'} |")
    return "\n".join(rows)


PARTS = {
    "job states": lambda: f"{diagram(JOB_MOVES, JobStatus.SAVE_PENDING)}\n\n{table(JOB_MOVES, JOB_MEANING)}",
    "bucket states": lambda: f"{diagram(BUCKET_MOVES, BucketStatus.ACTIVE)}\n\n{table(BUCKET_MOVES, BUCKET_MEANING)}",
}


def renewed(document: str) -> str:
    """The document with each part between its marks written anew.

    Raises:
        ValueError: a mark is missing.
    """
    for name, make in PARTS.items():
        begin, end = f"<!-- begin: {name}, by tools/state_diagrams.py -->", f"<!-- end: {name} -->"
        before, found, rest = document.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"the document lacks the line {begin!r} or {end!r}; write both where the part belongs")
        document = f"{before}{begin}\n\n{make()}\n\n{end}{after}"
    return document


def _life_order(moves: Mapping[Enum, frozenset[Enum]]):  # noqa: ANN202 - a key for sorted()
    """From the states that lead on to those that end: in the order in which the table names them."""
    return list(moves).index


def main(arguments: list[str]) -> int:
    """Show or write the difference; the answer is the exit code."""
    old = DOCUMENT.read_text(encoding="utf-8")
    new = renewed(old)
    if arguments == ["--write"]:
        DOCUMENT.write_text(new, encoding="utf-8")
        return 0
    sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), str(DOCUMENT), "tables"))
    return 0 if old == new else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
