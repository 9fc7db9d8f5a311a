"""The write-ahead log of an SQLite database is removed while a store has it open."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio
import sys
from pathlib import Path
from jobmaster import JobMaster

file = Path("shop.db").resolve()
log = Path("shop.db-wal")
jm = JobMaster("shop", master=f"sqlite:///{file}")

@jm.task(name="hello")
def hello():
    pass

def another_program():
    import subprocess
    subprocess.run([sys.executable, "-c", "import sqlite3; c = sqlite3.connect('shop.db'); "
                    "print(c.execute('SELECT count(*) FROM jm_message').fetchone()); c.close()"], check=True)

def tell(call):
    try:
        print("accepted", call())
    except Exception as error:
        print(error)

async def calls():
    for _ in range(2):
        try:
            await hello.adelay()
        except Exception as error:
            print(error)
        else:
            print("accepted")
    await jm.aclose()

def lose_the_log():
    if sys.argv[1] == "removed":
        log.unlink()
    else:
        file.read_bytes()  # a backup, after which no lock of this process is left on the file
        another_program()
        assert not log.exists()

async def on_a_loop():
    await hello.adelay()
    lose_the_log()
    await calls()

second = JobMaster("shop", master=f"sqlite:///{file}")
if sys.argv[2] == "sync":
    hello.delay()
    lose_the_log()
    tell(second.jobs.count)
    tell(hello.delay)
    tell(hello.delay)
else:
    asyncio.run(on_a_loop())
tell(second.jobs.count)
"""


@pytest.mark.fault("D14")
@pytest.mark.parametrize("how", ["removed", "by another program"])
def test_nothing_is_acknowledged_into_a_log_that_is_gone_and_the_next_call_opens_anew(tmp_path: Path, how: str) -> None:
    second, refused, again, asked = _told(tmp_path, how, "sync")
    assert "a part of it still has the old one open" in second, "SQLite would mix the removed log with the new one"
    _check_refusal(refused)
    assert again.startswith("accepted")
    assert asked.startswith("accepted"), "nobody has the old one open any more"
    _check_database(tmp_path)


def test_on_a_loop_the_next_call_opens_anew_too(tmp_path: Path) -> None:
    refused, again, asked = _told(tmp_path, "removed", "async")
    _check_refusal(refused)
    assert again == "accepted"
    assert asked.startswith("accepted")
    _check_database(tmp_path)


def _told(folder: Path, how: str, kind: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how, kind], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    lines = done.stdout.splitlines()
    return lines[1:] if lines[0].startswith("(") else lines


def _check_refusal(text: str) -> None:
    assert "write-ahead log" in text
    assert "Nothing was stored" in text
    assert "The next call opens the database anew" in text


def _check_database(folder: Path) -> None:
    database = sqlite3.connect(folder / "shop.db")
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()
