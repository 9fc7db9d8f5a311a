"""Long lines of several processes, into one pipe whose reader is slow."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobmaster.observe import whole_lines
from jobmaster.observe.whole_lines import WholeLineHandler

ROOT = Path(__file__).parents[2]
WRITERS, LINES, LENGTH = 3, 40, 20_000
WRITER = f"""
import logging
from jobmaster.observe.logs import configure_logs
configure_logs(level="info", format="json")
for number in range({LINES}):
    logging.getLogger("mine").info("%d " + "x" * {LENGTH}, number)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="locks on a pipe are Linux's")


def test_long_lines_of_several_processes_stay_whole_in_a_pipe_that_is_read_slowly() -> None:
    reading, writing = os.pipe()
    writers = [subprocess.Popen([sys.executable, "-c", WRITER], stderr=writing, cwd=ROOT) for _ in range(WRITERS)]
    os.close(writing)
    data = b""
    while piece := os.read(reading, 3_000):
        data += piece
        time.sleep(0.0002)  # so that the pipe is full
    os.close(reading)

    assert [writer.wait(10) for writer in writers] == [0] * WRITERS
    assert len([json.loads(line) for line in data.splitlines()]) == WRITERS * LINES


def test_a_process_that_stands_still_in_its_line_holds_nobody_up_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_lines, "_PATIENCE", 0.05)
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        frozen, other = WholeLineHandler(stream), WholeLineHandler(stream)
        assert frozen._turn is not None
        assert whole_lines._take(frozen._turn, until=0)

        other.emit(logging.makeLogRecord({"msg": "after a while"}))
        monkeypatch.setattr(whole_lines, "_PATIENCE", 1000)
        other.emit(logging.makeLogRecord({"msg": "at once"}))
        frozen.close()
        other.close()
    with os.fdopen(reading, encoding="utf-8") as told:
        assert told.read() == "after a while\nat once\n"
