"""A worker inside a program whose event loop is held up: it keeps its promises with threads."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import sys, threading, time
from pathlib import Path
from jobmaster import JobMaster

role, folder = sys.argv[1], Path(sys.argv[2])
jm = JobMaster("shop", master=f"sqlite:///{folder}/shop.db", lease=2, renew_every=0.4, max_block=1)
START = time.monotonic()

def tell(text):
    with (folder / "told.txt").open("a") as file:
        file.write(f"{role} {text}\\n")

def until(file):
    limit = time.monotonic() + 20
    while not (folder / file).exists() and time.monotonic() < limit:
        time.sleep(0.01)

@jm.task(name="block")
async def block():
    tell("blocks")
    if not (folder / "once").exists():
        (folder / "once").touch()
        until("taken over")
        tell("turns again")

@jm.task(name="hello")
async def hello(n: int):
    tell(f"hello {n}")

if role == "first":
    with jm:
        block.delay()
        until("once")
        hello.delay(1)
        until("hello again")
        hello.delay(2).get(timeout=20)
        tell("ends")
else:
    with jm:
        until("enough")
"""


def lines(folder: Path) -> list[str]:
    told = folder / "told.txt"
    return told.read_text().splitlines() if told.exists() else []


def wait_for(folder: Path, line: str) -> None:
    limit = time.monotonic() + 25
    while line not in lines(folder):
        assert time.monotonic() < limit, (line, lines(folder))
        time.sleep(0.01)


@pytest.mark.fault("B3")
def test_after_max_block_others_take_over_and_the_worker_goes_on_when_its_loop_turns_again(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM]
    log = tmp_path / "first.log"
    with log.open("wb") as errors:
        first = subprocess.Popen([*command, "first", str(tmp_path)], stderr=errors)
    second = None
    try:
        wait_for(tmp_path, "first blocks")
        second = subprocess.Popen([*command, "second", str(tmp_path)])
        wait_for(tmp_path, "second hello 1")
        wait_for(tmp_path, "second blocks")
        (tmp_path / "enough").touch()
        assert second.wait(20) == 0
        (tmp_path / "taken over").touch()
        (tmp_path / "hello again").touch()
        wait_for(tmp_path, "first ends")
        assert first.wait(20) == 0
    finally:
        for process in filter(None, (first, second)):
            process.kill()
            process.wait()

    told = lines(tmp_path)
    assert told.count("first hello 1") == 0, "what waited for the loop was run by the other worker, and only there"
    assert told.count("first hello 2") == 1
    assert told.count("second blocks") == 1
    text = log.read_text()
    assert "task block (job " in text
    assert "in until" in text, "the stack"
    assert "loop_blocked" in text
    assert "engine_given_up" in text
