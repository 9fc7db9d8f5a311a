"""Crash points: what arms them, when they strike, and that nothing is there in production."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobmaster import JobMaster, crash_points
from jobmaster.crash_points import FOLDER, POINTS, CrashPoints
from jobmaster.errors import ConfigurationError, OutcomeUnknown, StoreUnavailable
from jobmaster.stores.memory import MemoryStore


class Store:
    """One verb, and how often it took effect."""

    def __init__(self) -> None:
        self.effects = 0

    async def settle(self) -> str:
        self.effects += 1
        return "answer"


def outcomes(points: CrashPoints, calls: int) -> tuple[list[type], int]:
    """What the caller heard of each call, and how many took effect."""
    store = Store()
    points.watch(store)
    heard: list[type] = []
    for _ in range(calls):
        try:
            heard.append(type(asyncio.run(store.settle())))
        except StoreUnavailable as error:
            heard.append(type(error))
    return heard, store.effects


def test_an_answer_is_lost_after_the_effect_and_a_call_before_it(tmp_path: Path) -> None:
    assert outcomes(CrashPoints("settle.after=lose", str(tmp_path)), 2) == ([OutcomeUnknown, str], 2)
    assert outcomes(CrashPoints("settle.before=lose", str(tmp_path)), 2) == ([StoreUnavailable, str], 1)


def test_the_third_time_and_twice_in_all(tmp_path: Path) -> None:
    points = CrashPoints("settle.after=lose@3*2", str(tmp_path))
    assert outcomes(points, 6)[0] == [str, str, OutcomeUnknown, OutcomeUnknown, str, str]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["settle.after.1", "settle.after.2"]
    assert (tmp_path / "settle.after.1").read_text() == str(os.getpid())
    assert outcomes(CrashPoints("settle.after=lose@1*2", str(tmp_path)), 2)[0] == [str, str], "counted over processes"


def test_by_chance(tmp_path: Path) -> None:
    heard, _ = outcomes(CrashPoints("settle.after=lose%50*1000", str(tmp_path)), 400)
    assert 120 < heard.count(OutcomeUnknown) < 280


@pytest.mark.parametrize(
    "text",
    [
        "settle=kill",
        "settle.after",
        "settle.after=burn",
        "settle.during=kill",
        "settle.after=kill@0",
        "a.after=lose%101",
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="a point is written"):
        CrashPoints(text, str(tmp_path))


def test_an_app_that_is_none_for_tests_refuses_and_nothing_is_armed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(POINTS, "settle.after=kill")
    monkeypatch.setenv(FOLDER, str(tmp_path))
    with pytest.raises(ConfigurationError, match="testing=True"):
        JobMaster("shop", master=f"sqlite:///{tmp_path}/a.db")
    assert crash_points._armed is None


def test_a_store_of_production_is_left_as_it_is() -> None:
    store = MemoryStore()
    before = dict(vars(store))
    crash_points.watch(store)
    assert vars(store) == before


def test_a_folder_that_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=FOLDER):
        crash_points.arm({POINTS: "settle.after=kill", FOLDER: "/no/such"}, testing=True, app="shop")


PUSHES = """
import os, sys
from jobmaster import JobMaster, StoreUnavailable
jm = JobMaster("shop", master="sqlite:///{folder}/shop.db", testing=True)
@jm.task
def hello(): ...
for _ in range(3):
    hello.delay()
    print("accepted", flush=True)
"""


@pytest.mark.parametrize(("moment", "stored"), [("before", 1), ("after", 2)])
def test_a_producer_dies_at_its_second_push(tmp_path: Path, moment: str, stored: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PUSHES.format(folder=tmp_path)],
        env={**os.environ, POINTS: f"push.{moment}=kill@2", FOLDER: str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout.count("accepted")) == (-9, 1), done.stderr
    jm = JobMaster("shop", master=f"sqlite:///{tmp_path}/shop.db")
    try:
        assert sum(jm.jobs.count().values()) == stored
    finally:
        jm.close()
