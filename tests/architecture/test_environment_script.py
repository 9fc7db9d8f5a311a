"""tools/venv.sh on machines that lack something: it says what, and calls apt-get only when that was asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A Python of the right version whose `ensurepip` appears only once the (equally false) apt-get has run.
PYTHON = """#!/bin/sh
case "$*" in
    *ensurepip*) [ -f "{folder}/apt.log" ] ;;
    *version_info\\[:2\\]*) echo python3.11 ;;
    *venv*) echo "$*" >>"{folder}/venv.log"; exit 3 ;;
esac
"""
APT = '#!/bin/sh\necho "$*" >>"{folder}/apt.log"\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose PATH holds a Python without `venv`, and an apt-get that only takes notes."""
    programs = tmp_path / "bin"
    (tmp_path / "tools").mkdir()
    programs.mkdir()
    shutil.copy(ROOT / "tools" / "venv.sh", tmp_path / "tools")
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    for name, script in (("python3.11", PYTHON), ("apt-get", APT)):
        (programs / name).write_text(script.format(folder=tmp_path), encoding="utf-8")
        (programs / name).chmod(0o755)
    return tmp_path


def make_environment(checkout: Path, *, level: str = "run", **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{checkout / 'bin'}{os.pathsep}{os.defpath}"
    return subprocess.run(
        ["/bin/sh", str(checkout / "tools" / "venv.sh"), level],
        env={"PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def without_servers(checkout: Path) -> None:
    script = checkout / "tools" / "venv.sh"
    script.write_text(script.read_text(encoding="utf-8").replace("/usr/sbin/pgbouncer", "/nowhere"), encoding="utf-8")


def test_by_hand_it_says_what_to_install_and_installs_nothing(checkout: Path) -> None:
    done = make_environment(checkout)

    assert done.returncode == 1
    assert "apt-get install python3-venv" in done.stderr
    assert not (checkout / "apt.log").exists()


@pytest.mark.parametrize("consent", [{"CI": "true"}, {"APT": "1"}], ids=["ci", "apt"])
def test_with_consent_it_installs_the_missing_module_and_goes_on(checkout: Path, consent: dict[str, str]) -> None:
    make_environment(checkout, **consent)

    assert "install -y -qq --no-install-recommends python3.11-venv" in (checkout / "apt.log").read_text(
        encoding="utf-8"
    )
    assert "-m venv --clear .venv" in (checkout / "venv.log").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("consent", "level", "installs"),
    [({"CI": "true"}, "dev", True), ({"APT": "1"}, "dev", True), ({"CI": "true"}, "run", False), ({}, "dev", False)],
    ids=["ci", "apt", "no-tests", "by-hand"],
)
def test_with_consent_it_installs_the_servers_that_tests_need(
    checkout: Path, consent: dict[str, str], level: str, *, installs: bool
) -> None:
    without_servers(checkout)
    make_environment(checkout, level=level, **consent)

    log = checkout / "apt.log"
    assert ("pgbouncer" in (log.read_text(encoding="utf-8") if log.exists() else "")) is installs


def test_servers_that_cannot_be_installed_are_said_and_stop_nothing(checkout: Path) -> None:
    (checkout / "bin" / "apt-get").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    without_servers(checkout)
    (checkout / "bin" / "python3.11").write_text('#!/bin/sh\necho "$*" >>made.log\n', encoding="utf-8")

    done = make_environment(checkout, level="dev", CI="true")

    assert "pgbouncer could not be installed; the tests that need it will be skipped" in done.stderr
    assert "-m venv --clear .venv" in (checkout / "made.log").read_text(encoding="utf-8")


def test_a_named_python_that_is_too_old_is_refused(checkout: Path) -> None:
    old = checkout / "bin" / "python-old"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)

    done = make_environment(checkout, PYTHON=str(old))

    assert done.returncode == 1
    assert "not a Python of version 3.11 or newer" in done.stderr
