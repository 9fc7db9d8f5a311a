"""The debug log: JSON lines in four-hour files of mode 0600, shared by processes, complete when the process ends."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from jobmaster.errors import ConfigurationError
from jobmaster.observe.debug_log import DebugLog, period_of


@pytest.fixture
def log(tmp_path: Path) -> Iterator[DebugLog]:
    handler = DebugLog(tmp_path / "logs", "shop:eu")
    yield handler
    handler.close()


def record(message: str, *, level: int = logging.DEBUG, at: datetime | None = None) -> logging.LogRecord:
    made = logging.LogRecord("jobmaster.engine", level, "f.py", 1, message, None, None)
    if at is not None:
        made.created = at.timestamp()
    return made


def written(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        path.name: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted(folder.glob("*.jsonl"))
    }


@pytest.mark.parametrize(
    ("moment", "period"),
    [
        (datetime(2026, 11, 21, 0, 0, tzinfo=UTC), "20261121-00"),
        (datetime(2026, 11, 21, 3, 59, 59, tzinfo=UTC), "20261121-00"),
        (datetime(2026, 11, 21, 4, 0, tzinfo=UTC), "20261121-04"),
        (datetime(2026, 11, 21, 23, 59, tzinfo=UTC), "20261121-20"),
        (datetime(2026, 11, 22, 0, 30, tzinfo=timezone(timedelta(hours=1))), "20261121-20"),
    ],
)
def test_a_file_holds_four_hours_utc(moment: datetime, period: str) -> None:
    assert period_of(moment) == period


def test_lines_go_into_the_file_of_their_own_time(log: DebugLog, tmp_path: Path) -> None:
    for hour in (1, 5, 6, 9):
        log.emit(record(f"tick hour={hour}", at=datetime(2026, 1, 2, hour, tzinfo=UTC)))
    log.flush()

    found = {
        name: [line["fields"]["hour"] for line in lines] for name, lines in written(tmp_path / "logs").items() if lines
    }
    assert found == {
        "shop_eu-20260102-00.jsonl": [1],
        "shop_eu-20260102-04.jsonl": [5, 6],
        "shop_eu-20260102-08.jsonl": [9],
    }


def test_files_belong_to_their_user_alone(log: DebugLog, tmp_path: Path) -> None:
    log.emit(record("x"))
    log.flush()

    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "logs").iterdir()}
    assert modes == {0o600}
    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o700


def test_a_warning_is_written_at_once_and_takes_along_what_came_before(log: DebugLog, tmp_path: Path) -> None:
    log.emit(record("first"))
    before = [line for lines in written(tmp_path / "logs").values() for line in lines]
    log.emit(record("second", level=logging.WARNING))
    after = [line["message"] for lines in written(tmp_path / "logs").values() for line in lines]

    assert before == []
    assert after == ["first", "second"]


@pytest.mark.parametrize("ending", ["", "raise SystemExit(3)", "raise RuntimeError('oh')"])
def test_the_end_of_a_process_writes_everything(tmp_path: Path, ending: str) -> None:
    code = f"""
import logging
from jobmaster.observe.debug_log import start_debug_log
start_debug_log({str(tmp_path)!r}, "shop")
for n in range(5):
    logging.getLogger("jobmaster.engine").debug("tick n=%d", n)
{ending}
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=30)

    assert [line["fields"]["n"] for lines in written(tmp_path).values() for line in lines] == [0, 1, 2, 3, 4]


def test_a_forked_child_does_not_write_its_parents_lines_again(tmp_path: Path) -> None:
    code = f"""
import logging, os
from jobmaster.observe.debug_log import start_debug_log
start_debug_log({str(tmp_path)!r}, "shop")
logger = logging.getLogger("jobmaster.engine")
logger.debug("parent")
child = os.fork()
if child == 0:
    logger.debug("child")
    raise SystemExit
os.waitpid(child, 0)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=30)

    lines = [line["message"] for lines in written(tmp_path).values() for line in lines]
    assert sorted(lines) == ["child", "parent"]


def test_processes_share_a_file_line_by_line(tmp_path: Path) -> None:
    code = f"""
import logging, sys
from jobmaster.observe.debug_log import start_debug_log
start_debug_log({str(tmp_path)!r}, "shop")
for n in range(500):
    logging.getLogger("jobmaster.engine").debug("tick who=%s n=%d %s", sys.argv[1], n, "x" * 200)
"""
    processes = [subprocess.Popen([sys.executable, "-c", code, who]) for who in "abc"]
    assert [process.wait(60) for process in processes] == [0, 0, 0]

    lines = [line for lines in written(tmp_path).values() for line in lines]
    assert sorted((line["fields"]["who"], line["fields"]["n"]) for line in lines) == [
        (who, n) for who in "abc" for n in range(500)
    ]


def test_only_our_own_lines_are_taken_and_starting_twice_writes_once(tmp_path: Path) -> None:
    code = f"""
import logging
from jobmaster.observe.debug_log import start_debug_log
logging.basicConfig(level=logging.INFO, format="%(message)s")
for _ in range(2):
    start_debug_log({str(tmp_path)!r}, "shop")
logging.getLogger("jobmaster.engine").debug("ours")
logging.getLogger("jobmaster.engine").info("for both")
logging.getLogger("theirs").critical("theirs")
logging.getLogger("theirs").debug("nobody's")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    assert [line["message"] for lines in written(tmp_path).values() for line in lines] == ["ours", "for both"]
    # What the program wrote before is written as before.
    assert done.stderr.splitlines() == ["for both", "theirs"]


def test_a_folder_that_cannot_be_made_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match="debug_log cannot write"):
        DebugLog(tmp_path / "file" / "logs", "shop")


def test_a_broken_disk_is_said_once_and_stops_nothing(
    log: DebugLog, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("jobmaster.observe.debug_log.os.write", full)
        for _ in range(3):
            log.emit(record("x", level=logging.WARNING))

    said = capsys.readouterr().err
    assert said.count("cannot be written") == 1
    assert "No space left" in said
