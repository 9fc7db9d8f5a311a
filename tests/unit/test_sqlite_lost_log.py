"""The write-ahead log of an SQLite database is removed while a store has it open."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
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

def enqueue():
    try:
        hello.delay()
    except Exception as error:
        print(error)
    else:
        print("accepted")

hello.delay()
if sys.argv[1] == "removed":
    log.unlink()
else:
    file.read_bytes()  # a backup, after which no lock of this process is left on the file
    another_program()
    assert not log.exists()
enqueue()
second = JobMaster("shop", master=f"sqlite:///{file}", accept_timeout=1)
try:
    second.jobs.count()
except Exception as error:
    print(error)
jm.close()
enqueue()
"""


@pytest.mark.fault("D14")
@pytest.mark.parametrize("how", ["removed", "by another program"])
def test_nothing_is_acknowledged_into_a_log_that_is_gone(tmp_path: Path, how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    *_, refused, second, again = done.stdout.splitlines()
    assert "write-ahead log" in refused
    assert "Nothing was stored" in refused
    assert "Restart this program" in second, "SQLite would mix the removed log with the new one"
    assert again == "accepted", "once the old one is closed"
    database = sqlite3.connect(tmp_path / "shop.db")
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()
