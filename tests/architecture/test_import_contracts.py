"""The arrows of the architecture: kept by the code, and enforced by contracts that notice a wrong one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = str(Path(sys.executable).with_name("lint-imports"))

# file, the import that must not be there, the contract that says so
WRONG_ARROWS = [
    ("model/x.py", "jobmaster.rules.x", "Arrows"),
    ("rules/x.py", "jobmaster.ports.x", "Arrows"),
    ("ports/x.py", "jobmaster.stores.x", "Arrows"),
    ("engine/x.py", "jobmaster.stores.x", "Arrows"),
    ("stores/x.py", "jobmaster.engine.x", "Arrows"),
    ("stores/x.py", "jobmaster.app", "Arrows"),
    ("engine/x.py", "jobmaster.context", "Arrows"),
    ("app.py", "jobmaster.stores.x", "Only runtime"),
    ("worker_process.py", "jobmaster.stores.x", "Only runtime"),
    ("app.py", "jobmaster.engine.x", "know the engine"),
    ("cli/x.py", "jobmaster.ports.x", "public API"),
    ("web/x.py", "jobmaster.runtime", "public API"),
    ("compat/x.py", "jobmaster.wire.x", "public API"),
    ("helpers.py", "jobmaster.errors", "every module has its place"),
]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT, "--no-logo", "--no-cache"], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_code_keeps_the_contracts() -> None:
    done = lint(ROOT)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "imported", "contract"), WRONG_ARROWS, ids=lambda value: value.replace("jobmaster.", "")
)
def test_a_wrong_arrow_breaks_a_contract(tmp_path: Path, file: str, imported: str, contract: str) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    package = tmp_path / "jobmaster"
    for name in [
        "app.py",
        "client.py",
        "context.py",
        "database.py",
        "early_start.py",
        "errors.py",
        "first_engine.py",
        "in_process.py",
        "result.py",
        "runtime.py",
        "supervising.py",
        "task.py",
        "transactional.py",
        "worker_process.py",
        "__init__.py",
    ]:
        touch(package / name)
    for name in ["cli", "compat", "demo", "engine", "model", "ports", "rules", "settings", "stores", "web", "wire"]:
        touch(package / name / "__init__.py")
        touch(package / name / "x.py")
    touch(package / file).write_text(f"import {imported}\n", encoding="utf-8")

    done = lint(tmp_path)

    assert done.returncode == 1, done.stdout + done.stderr
    assert any(contract in line and "BROKEN" in line for line in done.stdout.splitlines()), done.stdout


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path
