"""Every line that JobMaster itself logs is an event: a name in snake_case, then `key=value`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2] / "jobmaster"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
EVENT = re.compile(r"(?P<name>[a-z][a-z0-9_]*)(?=$| \w+=|: )")
KEYS_OF_A_JOB = {"key", "job_key", "id_of_job"}


class Line(NamedTuple):
    place: str
    text: str

    @property
    def name(self) -> str:
        found = EVENT.match(self.text)
        return found["name"] if found else ""

    @property
    def keys(self) -> list[str]:
        return re.findall(r"(\w+)=%", self.text)


def lines() -> Iterator[Line]:
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS):
                continue
            if not (isinstance(node.func.value, ast.Name) and node.func.value.id in {"logger", "_log"}):
                continue
            texts = [part.value for part in node.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]
            if texts:
                yield Line(f"{path.relative_to(ROOT)}:{node.lineno}", texts[0])


LINES = list(lines())


def test_there_are_events() -> None:
    names = {line.name for line in LINES}

    assert len(names) > 50
    assert names >= {"worker_registered", "worker_ready", "bucket_lost", "engine_ended", "death_reported", "stop_ended"}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.place)
def test_each_line_begins_with_the_name_of_its_event(line: Line) -> None:
    assert line.name, f"{line.text!r} has no name such as bucket_lost"
    assert not KEYS_OF_A_JOB.intersection(line.keys), "a job is named by job=<its id>"


def test_the_values_of_an_event_can_be_told_apart() -> None:
    assert [line for line in LINES if len(set(line.keys)) != len(line.keys)] == []
