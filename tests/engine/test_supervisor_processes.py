"""The supervisor with real engine processes and real signals."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
WAIT = 30


class Program:
    """A running supervisor, and what it notes."""

    def __init__(self, *, engines: int = 1, entry: str = "entry", grace: float = 3, **orders: object) -> None:
        command = [sys.executable, "-m", "tests.engine.supervised_program"]
        self.process = subprocess.Popen(
            [*command, str(engines), entry, json.dumps(orders), str(grace)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        self._events: queue.SimpleQueue[dict[str, object] | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._events.put(json.loads(line))
        self._events.put(None)

    def until(self, key: str) -> dict[str, object]:
        """The next event of this kind."""
        limit = time.monotonic() + WAIT
        while (event := self._events.get(timeout=max(0, limit - time.monotonic()))) is not None:
            if key in event:
                return event
        raise AssertionError(f"the program ended without {key}")

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def send(self, number: int) -> None:
        self.process.send_signal(number)


@pytest.fixture
def start():
    programs = []

    def make(**how):
        programs.append(Program(**how))
        return programs[-1]

    yield make
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
        program.process.wait()
        program.process.stdout.close()


def lines(file):
    return file.read_text().splitlines() if file.exists() else []


def wait_for(condition):
    limit = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_engines_gracefully_with_exit_code_0(start, tmp_path, number):
    told = tmp_path / "told"
    program = start(engines=2, told=str(told))
    program.until("renewed")
    program.until("renewed")
    children = program.children()
    assert len(children) == 2
    program.send(number)
    assert program.until("code") == {"code": 0, "failure": None}
    assert program.process.wait(WAIT) == 0
    assert lines(told).count("stop 3") == 2
    assert psutil.wait_procs(children, timeout=5)[1] == []


def test_an_engine_that_somebody_else_tells_to_stop_is_replaced(start, tmp_path):
    told = tmp_path / "told"
    program = start(told=str(told))
    program.until("renewed")
    os.kill(program.children()[0].pid, signal.SIGTERM)
    assert program.until("ended")["ended"] == 1
    assert program.until("renewed") == {"renewed": 2}
    assert lines(told).count("stop 3") == 1, "it has stopped gracefully all the same"


def test_a_signal_to_the_whole_group_ends_all(start):
    program = start(engines=2)
    program.until("renewed")
    program.until("renewed")
    for child in program.children():
        child.send_signal(signal.SIGTERM)
    program.send(signal.SIGTERM)
    assert program.until("code") == {"code": 0, "failure": None}


def test_the_second_signal_cancels_at_once(start, tmp_path):
    told = tmp_path / "told"
    program = start(act="finish slowly", told=str(told), grace=60)
    program.until("renewed")
    program.send(signal.SIGTERM)
    wait_for(lambda: "stop 60" in lines(told))
    program.send(signal.SIGTERM)
    assert program.until("code")["code"] == 0
    assert "abort" in lines(told)


def test_the_third_signal_kills_and_exits_with_1(start, tmp_path):
    program = start(act="block", grace=60)
    program.until("renewed")
    child = program.children()[0]
    for _ in range(3):
        program.send(signal.SIGTERM)
        program.until("stops")  # equal signals that arrive together are one
    ended = program.until("ended")
    assert ended["blame"] == []
    assert program.until("code")["code"] == 1
    assert not child.is_running()


@pytest.mark.alone
def test_a_killed_engine_is_reported_with_its_evidence_and_replaced_within_a_second(start):
    """The quickest of three times counts: this machine may have other things to do."""
    program = start()
    program.until("renewed")
    told_after, replaced_after = [], []
    for worker in (1, 2, 3):
        began = time.monotonic()
        os.kill(program.children()[0].pid, signal.SIGKILL)
        assert program.until("ended") == {
            "ended": worker,
            "blame": [["r" * 16, "SIGKILL"], ["s" * 16, "SIGKILL"]],
        }
        told_after.append(time.monotonic() - began)
        assert program.until("renewed") == {"renewed": worker + 1}
        replaced_after.append(time.monotonic() - began)
    assert min(told_after) < 0.5
    assert min(replaced_after) < 2.0


def test_a_loop_that_blocks_is_replaced(start, capfd):
    program = start(act="block")
    program.until("renewed")
    reason = "event loop blocked for 2 s"
    assert program.until("ended")["blame"] == [["r" * 16, reason], ["s" * 16, reason]]
    program.until("renewed")


def test_of_a_loop_that_says_who_blocks_it_only_that_run_is_blamed(start):
    program = start(act="accuse and block")
    program.until("renewed")
    assert program.until("ended")["blame"] == [["r" * 16, "event loop blocked for 2 s"]]


def test_code_that_holds_the_interpreter_is_replaced_too(start):
    program = start(act="hold the interpreter")
    program.until("renewed")
    assert program.until("ended")["ended"] == 1
    program.until("renewed")


def test_a_condemned_engine_is_replaced(start):
    program = start(act="condemn")
    program.until("renewed")
    assert "condemned: run x does not end" in program.until("ended")["blame"][0][1]
    program.until("renewed")


def test_an_app_that_cannot_be_imported_ends_with_exit_code_1_and_the_reason(start):
    program = start(engines=2, entry="broken_import")
    end = program.until("code")
    assert end["code"] == 1
    assert "shop_that_does_not_exist" in end["failure"]
    assert program.process.wait(WAIT) == 1


def test_a_killed_tree_leaves_nothing_behind(start):
    program = start(engines=2)
    program.until("renewed")
    program.until("renewed")
    children = program.children()
    program.process.kill()
    assert psutil.wait_procs(children, timeout=10)[1] == []


def test_the_supervisor_holds_none_of_the_users_code(start):
    foreign = ["jobmaster.app", "jobmaster.engine.worker", "sqlalchemy", "kombu", "flask"]
    imports = "import sys, jobmaster.engine.supervisor, jobmaster.engine.links.processes"
    code = f"{imports}; print([name for name in {foreign} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
