"""Rules of CONTRIBUTING.md that no linter knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_DUTY = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
PACKAGE_FILES = sorted((ROOT / "jobmaster").rglob("*.py"))


def test_a_file_name_says_its_duty() -> None:
    # compat repeats Celery's module paths, `celery.utils` among them.
    vague = [
        str(path)
        for path in PACKAGE_FILES
        if NO_DUTY.intersection(path.with_suffix("").parts) and "compat" not in path.parts
    ]

    assert vague == []


@pytest.mark.parametrize("block", ["ignore = [", '"tests/**" = [', '"jobmaster/stores/**" = [', "filterwarnings = ["])
def test_every_exception_from_a_rule_has_its_reason(block: str) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lines = text.split(block, 1)[1].split("\n]", 1)[0].strip().splitlines()

    assert [line for line in lines if not re.search(r"#\s*\S+", line) and line.strip() != '"error",'] == []


def test_every_package_is_a_package() -> None:
    # Alembic loads migrations by path; the folder's files begin with numbers and cannot be imported.
    folders = {path.parent for path in PACKAGE_FILES if path.parent.name != "versions"}

    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []
