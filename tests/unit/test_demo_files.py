"""What the demo reads, and that its two ways of counting words agree on any text."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import jobmaster
from jobmaster import ConfigurationError, Priority
from jobmaster.demo import files
from jobmaster.demo.files import default_folder, find_text_files, has_changed
from jobmaster.demo.recount import most_frequent, recount

# Imports the demo's app, which has to stay out of the process of the other tests: it would be their default app.
COUNT = """
import json, sys
from pathlib import Path
from jobmaster.demo.app import count_words
print(json.dumps([count_words(str(path)).counts for path in sorted(Path(sys.argv[1]).iterdir())]))
"""
ALPHABET = "aàßÄİıſﬁ²½٣३_-' \t\n\r\x0b\x1c\x85\u2028é中文字😀\u0301\x000ZǅΣς"


def test_both_counts_agree_on_any_text(tmp_path: Path) -> None:
    rng = random.Random(7)
    for number in range(300):
        text = "".join(rng.choices(ALPHABET, k=rng.randrange(60)))
        (tmp_path / f"{number:03}.txt").write_bytes(text.encode() + rng.choice([b"", b"\xff\xfe", b"caf\xe9 x"]))
    ours = subprocess.run(
        [sys.executable, "-c", COUNT, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    found = find_text_files(tmp_path).files

    for file, counts in zip(found, json.loads(ours.stdout), strict=True):
        assert recount([file]) == (counts, set()), Path(file.path).read_bytes()


def test_text_files_are_found_with_their_priority_and_others_are_passed_by(tmp_path: Path) -> None:
    for name in ("a.md", "b.PY", "c.toml", "d.png", ".hidden.md", "sub/e.txt", ".git/f.md", "node_modules/g.js"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x", encoding="utf-8")
    (tmp_path / "link.md").symlink_to(tmp_path / "a.md")
    (tmp_path / "gone.md").symlink_to(tmp_path / "nothing")
    (tmp_path / "folder.md").mkdir()
    (tmp_path / "big.md").write_bytes(b"x" * (files.LARGEST + 1))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.md")).write_text("x", encoding="utf-8")

    found = find_text_files(tmp_path)

    assert [(Path(file.path).relative_to(tmp_path).as_posix(), file.priority) for file in found.files] == [
        ("a.md", Priority.HIGH),
        ("b.PY", Priority.MEDIUM),
        ("c.toml", Priority.LOW),
        ("sub/e.txt", Priority.HIGH),
    ]
    assert (found.too_large, found.too_many) == (1, 0)


def test_there_is_a_limit_and_it_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST", 3)
    for number in range(5):
        (tmp_path / f"{number}.md").touch()

    found = find_text_files(tmp_path)

    assert (len(found.files), found.too_many) == (3, 2)


@pytest.mark.parametrize(("folder", "told"), [("nowhere", "There is no folder"), (".", "has no text file")])
def test_a_folder_without_text_files_is_an_error(tmp_path: Path, folder: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        find_text_files(tmp_path / folder)


def test_a_file_that_changed_or_vanished_is_not_counted(tmp_path: Path) -> None:
    for name in ("same.md", "other.md", "gone.md"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    found = find_text_files(tmp_path)
    (tmp_path / "other.md").write_text("something else", encoding="utf-8")
    (tmp_path / "gone.md").unlink()

    counts, changed = recount(found.files)

    assert counts == {"same": 1, "md": 1}
    assert {Path(path).name for path in changed} == {"other.md", "gone.md"}
    assert [has_changed(file) for file in found.files] == [True, True, False]


def test_equally_frequent_words_stand_in_order() -> None:
    assert most_frequent({"b": 2, "a": 2, "c": 3, "d": 1}, 3) == [("c", 3), ("a", 2), ("b", 2)]


def test_the_default_is_the_project_or_else_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "jobmaster"
    package.mkdir(parents=True)
    monkeypatch.setattr(jobmaster, "__file__", str(package / "__init__.py"))
    assert default_folder() == package

    for name in ("Makefile", "pyproject.toml"):
        (package.parent / name).touch()
    assert default_folder() == package.parent
