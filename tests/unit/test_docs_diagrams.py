"""The diagrams of docs/architecture.md are the tables of the code."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from jobmaster.model.states import BUCKET_MOVES, JOB_MOVES
from tests.unit.guide_runner import ROOT, blocks_of

PAGE = ROOT / "docs" / "architecture.md"
TOOL = ROOT / "tools" / "state_diagrams.py"


def test_the_generated_parts_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, str(TOOL)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, f"run: python tools/state_diagrams.py --write\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("number", [0, 1])
def test_the_arrows_are_the_moves(number: int) -> None:
    diagrams = [block.text for block in blocks_of(PAGE) if "stateDiagram" in block.text]
    moves = (JOB_MOVES, BUCKET_MOVES)[number]

    drawn = set(re.findall(r"(\w+) --> (\w+)", diagrams[number]))
    assert drawn == {(str(status), str(target)) for status, targets in moves.items() for target in targets}
    ends = set(re.findall(r"(\w+) --> \[\*\]", diagrams[number]))
    assert ends == {str(status) for status, targets in moves.items() if not targets}
