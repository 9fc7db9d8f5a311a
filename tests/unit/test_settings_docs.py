"""docs/settings.md says what the settings are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from jobmaster.settings.agreement import AGREED
from jobmaster.settings.reference import BEGIN, END, reference, renewed
from jobmaster.settings.resolution import resolve
from jobmaster.settings.values import RULES

DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_table_of_the_docs_is_the_one_of_the_code() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")

    assert renewed(text) == text, "run: python -m jobmaster.settings.reference docs/settings.md"


def test_the_table_has_one_row_per_setting() -> None:
    rows = reference().splitlines()[2:]

    assert [row.split("`")[1] for row in rows] == list(RULES)
    assert all(row.count("|") == 7 for row in rows)


def test_a_document_without_marks_is_not_written() -> None:
    with pytest.raises(ValueError, match="lacks the line"):
        renewed(f"{END}{BEGIN}")


def test_the_docs_name_the_settings_that_processes_must_agree_on() -> None:
    sentence = next(line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if "must be the same" in line)

    assert re.findall(r"`(\w+)`", sentence) == list(AGREED)


def test_the_files_shown_in_the_docs_are_accepted(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    assert all(tomllib.loads(block) for block in blocks)
    (tmp_path / "jobmaster.toml").write_text("".join(blocks), encoding="utf-8")

    shop = resolve("shop", folder=str(tmp_path), environ={}).settings
    reports = resolve("reports", folder=str(tmp_path), is_default=False, environ={}).settings

    assert [agent.name for agent in shop.agents] == ["pg-1", "nats-1"]
    assert [worker.lanes for worker in shop.workers] == [(), ("mail",)]
    assert reports.master.path == str(tmp_path / "reports.db")
