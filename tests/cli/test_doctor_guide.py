"""docs/guide/health.md names every check of the doctor, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guide" / "health.md").read_text(encoding="utf-8")
CODE = [*(ROOT / "jobmaster" / "cli" / "checks").glob("*.py"), ROOT / "jobmaster" / "cli" / "doctor.py"]


def names_in_code() -> set[str]:
    calls = [
        node for path in CODE for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"Finding", "judge"}
    ]  # fmt: skip
    return {
        part.value
        for call in calls
        for part in ast.walk(call.args[0])
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    } | {"app", "settings"}


def names_in_guide() -> set[str]:
    table = GUIDE.partition("| check | not well when |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([a-z ]+)`", cell)}


def test_the_guide_has_every_check_and_no_other() -> None:
    assert names_in_guide() == names_in_code()
