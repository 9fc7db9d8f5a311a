"""F6 and F2: rules keep names of zones, never offsets; and no rule looks at a clock."""

from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
import zoneinfo
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path

import pytest

import jobmaster.schedules
from jobmaster.schedules import Cron, Interval, NaturalCron

START = datetime(2027, 7, 1, tzinfo=UTC)
SCRIPT = """
import pickle, sys
from datetime import UTC, datetime
from jobmaster.schedules import compile_expression
stored, pickled = pickle.load(sys.stdin.buffer)
start = datetime(2027, 7, 1, tzinfo=UTC)
for type_id, text, zone in stored:
    print(compile_expression(type_id, text, zone).next_after(start).astimezone(UTC).isoformat())
for rule in map(pickle.loads, pickled):
    print(rule.next_after(start).astimezone(UTC).isoformat())
"""


def zone_file(name: str) -> bytes:
    """The compiled rules of a zone, of this machine."""
    for folder in zoneinfo.TZPATH:
        if Path(folder, name).is_file():
            return Path(folder, name).read_bytes()
    package = f"tzdata.zoneinfo.{name.rpartition('/')[0].replace('/', '.')}"
    return resources.files(package).joinpath(name.rpartition("/")[2]).read_bytes()


@pytest.mark.fault("F6")
def test_when_the_rules_of_a_zone_change_moments_are_worked_out_anew(tmp_path: Path):
    """The same stored rules, read by a process whose time-zone data says that Berlin has gone to Tokyo's time."""
    rules = [Cron("0 9 * * *", "Europe/Berlin"), NaturalCron.parse("every day at 9:00", "Europe/Berlin")]
    assert {rule.next_after(START).astimezone(UTC) for rule in rules} == {START + timedelta(hours=7)}
    stored = [(rule.type_id, rule.text, rule.zone.key) for rule in rules]
    assert not any("+" in part for row in stored for part in row)

    (tmp_path / "Europe").mkdir()
    (tmp_path / "Europe" / "Berlin").write_bytes(zone_file("Asia/Tokyo"))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=pickle.dumps((stored, [pickle.dumps(rule) for rule in rules])),
        env={**os.environ, "PYTHONTZPATH": str(tmp_path)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.decode().split() == ["2027-07-02T00:00:00+00:00"] * 4


@pytest.mark.fault("F6")
def test_the_stored_text_of_an_interval_knows_no_zone():
    rule = Interval(timedelta(hours=5), anchor=datetime(2027, 7, 1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")))
    assert rule.text == "05:00:00 anchored 2027-07-01T00:00:00Z"


@pytest.mark.fault("F2")
def test_no_rule_looks_at_a_clock():
    """A clock that steps cannot matter to what never asks it: every moment is an argument."""
    files = sorted(Path(jobmaster.schedules.__file__).parent.rglob("*.py"))
    assert len(files) > 15
    assert [asked for file in files for asked in clocks_asked(file.read_text(encoding="utf-8"))] == []
    source = "import time; from random import choice; datetime.now(UTC); date.today()"
    assert sorted(clocks_asked(source)) == ["date.today", "datetime.now", "random", "time"]


def clocks_asked(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name in {"time", "random"}]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] if node.module in {"time", "random"} else []
        elif isinstance(node, ast.Attribute) and node.attr in {"now", "utcnow", "today"}:
            found.append(ast.unparse(node))
    return found
