"""Under which name a task's jobs travel, and how tasks are found."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from jobmaster import ConfigurationError, JobMaster

PROGRAM = """
    from jobmaster import JobMaster
    jm = JobMaster("names")

    @jm.task
    def hello(): ...

    print(hello.name)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "shop" / "orders").mkdir(parents=True)
    for folder in ("shop", "shop/orders"):
        (tmp_path / folder / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "shop" / "jobs.py").write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    (tmp_path / "script.py").write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    (tmp_path / "shop" / "__main__.py").write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["script.py"], "script.hello"),
        (["shop/jobs.py"], "shop.jobs.hello"),
        (["-m", "shop.jobs"], "shop.jobs.hello"),
        (["-m", "shop"], "shop.hello"),
        (["-c", "import shop.jobs"], "shop.jobs.hello"),
        (["-c", "import script"], "script.hello"),
    ],
    ids=" ".join,
)
def test_a_task_has_one_name_however_its_module_is_started(project: Path, command: list[str], name: str) -> None:
    done = subprocess.run(
        [sys.executable, *command], cwd=project, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.strip() == name, done.stderr


def test_autodiscover_imports_tasks_of_a_package_and_below(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "market" / "mail").mkdir(parents=True)
    for place in ("market", "market/mail"):
        (project / place / "__init__.py").write_text("", encoding="utf-8")
        (project / place / "tasks.py").write_text("found = True\n", encoding="utf-8")
    (project / "market" / "other.py").write_text("raise RuntimeError('not asked for')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(project))

    jm = JobMaster("names", master="sqlite:////tmp/never-opened.db")
    assert jm.autodiscover("market") == ["market.tasks", "market.mail.tasks"]
    with pytest.raises(ImportError):
        jm.autodiscover("nowhere")


def test_an_include_that_cannot_be_imported_is_told_with_its_name() -> None:
    jm = JobMaster("names", master="sqlite:////tmp/never-opened.db", include=["shop_that_is_not_there.tasks"])
    with pytest.raises(ConfigurationError, match=r"include names the module 'shop_that_is_not_there\.tasks'"):
        jm.load_tasks()


def test_a_relative_sqlite_path_is_relative_to_the_file_that_makes_the_app() -> None:
    jm = JobMaster("names", master="sqlite:///here.db")
    assert jm.settings.master.path == str(Path(__file__).parent / "here.db")


def test_the_first_app_is_the_default_one_unless_another_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBMASTER_GRACE", "7")
    monkeypatch.setenv("JOBMASTER_CLUSTERS__SECOND__GRACE", "9")
    first = JobMaster("first", master="sqlite:////tmp/never-opened.db", default=True)
    second = JobMaster("second", master="sqlite:////tmp/never-opened.db")
    assert (first.settings.grace, second.settings.grace) == (7, 9)

    third = JobMaster("third", master="sqlite:////tmp/never-opened.db", default=True)
    assert (first.settings.grace, third.settings.grace) == (25, 7)


def test_an_app_knows_the_others_of_its_program() -> None:
    first = JobMaster("known-first", master="sqlite:////tmp/never-opened.db")
    second = JobMaster("known-second", master="sqlite:////tmp/never-opened.db")
    assert second.cluster("known-first") is first
    assert first.cluster("known-second") is second
    with pytest.raises(ConfigurationError, match="no app of cluster 'known-third'"):
        first.cluster("known-third")
