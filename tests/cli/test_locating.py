"""Finding the app as `-A` names it. Each module has a name of its own, because Python imports a name only once."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobmaster import JobMaster
from jobmaster.errors import ConfigurationError
from jobmaster.locating import AppImportError, find_app

_numbers = itertools.count()
MAKE = "from jobmaster import JobMaster\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, str]], str]]:
    """Writes files (`X` in names and texts is the module's name) and answers that name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"located_{next(_numbers)}"

    def write(files: dict[str, str]) -> str:
        for file, text in files.items():
            path = tmp_path / file.replace("X", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("X", name), encoding="utf-8")
        return name

    yield write
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ({"X.py": MAKE + "jm = JobMaster('found')"}, "X"),
        ({"X.py": MAKE + "jm = JobMaster('found')"}, "X:jm"),
        ({"X.py": MAKE + "jm = JobMaster('found')"}, "X.py"),
        ({"X.py": MAKE + "anything = JobMaster('found')"}, "X"),
        ({"X.py": MAKE + "app = JobMaster('found')\nother = JobMaster('other')"}, "X"),
        ({"X.py": MAKE + "jm = JobMaster('found')\nsame = jm\n_also = jm"}, "X"),
        ({"X.py": MAKE + "class Holder: ...\nh = Holder()\nh.jm = JobMaster('found')"}, "X:h.jm"),
        ({"X.py": MAKE + "class Web: ...\napp = Web()\napp.jobmaster = JobMaster('found')"}, "X"),
        ({"X.py": MAKE + "class Web: ...\napp = Web()\njm = JobMaster('found')"}, "X"),
        ({"X/__init__.py": MAKE + "jm = JobMaster('found')"}, "X"),
        ({"X/__init__.py": "", "X/app.py": MAKE + "jm = JobMaster('found')"}, "X"),
        ({"X/__init__.py": "", "X/celery.py": MAKE + "app = JobMaster('found')"}, "X"),
        ({"X/__init__.py": "", "X/tasks.py": MAKE + "jm = JobMaster('found')"}, "X"),
        (
            {"X/__init__.py": "", "X/deep/__init__.py": "", "X/deep/jobs.py": MAKE + "jm = JobMaster('found')"},
            "X.deep.jobs",
        ),
        ({"X/apps.py": MAKE + "jm = JobMaster('found')"}, "X/apps.py:jm"),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_the_app_is_found(project: Callable[[dict[str, str]], str], files: dict[str, str], place: str) -> None:
    name = project(files)

    assert find_app(place.replace("X", name)).cluster_id == "found"


def test_sub_modules_are_imported_only_as_far_as_needed(project: Callable[[dict[str, str]], str]) -> None:
    name = project({"X/__init__.py": MAKE + "jm = JobMaster('found')", "X/celery.py": "raise RuntimeError('never')"})

    assert find_app(name).cluster_id == "found"
    assert f"{name}.celery" not in sys.modules


def test_a_compat_app_is_found_like_a_native_one(project: Callable[[dict[str, str]], str]) -> None:
    pytest.importorskip("jobmaster.compat")
    text = "from jobmaster.compat import Celery\napp = Celery('proj', broker='sqlite:///x.db')\n"
    name = project({"X.py": text})

    assert isinstance(find_app(name), JobMaster)


@pytest.mark.parametrize(
    ("files", "place", "parts"),
    [
        ({}, ":jm", ["names no module"]),
        ({}, "X", ["There is no module", "Looked in"]),
        ({"X.py": ""}, "X.sub", ["There is no module", ".sub", "'X' is no package: give -A X"]),
        ({"X.py": ""}, "Xx", ["There is no module 'Xx'", "Did you mean -A X?"]),
        ({"X/__init__.py": "", "X/app.py": ""}, "X.ap", ["There is no module 'X.ap'"]),
        ({"X.py": "x = 1"}, "X", ["No JobMaster app was found in X", "-A X:NAME"]),
        ({"X/__init__.py": "", "X/app.py": ""}, "X", ["found in X, X.app"]),
        ({"X.py": MAKE + "a = JobMaster('a')\nb = JobMaster('b')"}, "X", ["X:a, X:b"]),
        ({"X.py": MAKE + "jm = JobMaster('a')"}, "X:jn", ["no attribute 'jn'", "Apps in it: jm"]),
        ({"X.py": "x = 1"}, "X:x", ["is a int", "no JobMaster app"]),
        ({"X.py": "raise SystemExit(3)"}, "X", ["ended the program (exit 3)", "__main__"]),
        ({"X.py": MAKE + "jm = JobMaster('a', lease=0)"}, "X", ["lease", "must be"]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_found_is_told(
    project: Callable[[dict[str, str]], str], files: dict[str, str], place: str, parts: list[str]
) -> None:
    name = project(files)

    with pytest.raises(ConfigurationError) as told:
        find_app(place.replace("X", name))
    text = str(told.value)
    assert [part for part in parts if part.replace("X", name) not in text] == []


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("import json\njson.loads('{')", ["JSONDecodeError", 'json.loads("{")']),
        ("def (", ["SyntaxError"]),
        ("import nosuch_library_of_the_user", ["ModuleNotFoundError", "nosuch_library_of_the_user"]),
    ],
    ids=["raises", "syntax", "missing-import"],
)
def test_a_module_that_fails_shows_its_own_traceback(
    project: Callable[[dict[str, str]], str], text: str, parts: list[str]
) -> None:
    name = project({"X.py": text})

    with pytest.raises(AppImportError) as told:
        find_app(name)
    details = told.value.details.replace("'", '"')
    assert [part for part in parts if part not in details] == []
    assert "locating.py" not in details
    assert "importlib" not in details
