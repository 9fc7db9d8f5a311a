"""A forked child never touches what its parent opened, and opens its own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.unit.sqlite_place import exit_code_of, in_loop, new_job, opened, owned_bucket

pytestmark = pytest.mark.backend("sqlite")

CHILD = """
import asyncio, gc, os, sys, threading
from jobmaster.errors import OutcomeUnknown, StoreUnavailable
from jobmaster.ports.master import MasterRules
from jobmaster.stores.sql.sqlite.store import SqliteStore
from tests.unit.sqlite_place import opened, owned_bucket, new_job

path = sys.argv[1]
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()

def call(work):
    return asyncio.run_coroutine_threadsafe(work, loop).result(20)

async def prepare():
    store = await SqliteStore.open(path, rules=MasterRules())
    bucket = await owned_bucket(store)
    store.subscribe("held", lambda: None)
    assert store.hold_presence(bucket.owner)
    await store.list_workers()
    return store, bucket

async def push_many():
    return [asyncio.ensure_future(store.push(bucket.id, [new_job()])) for _ in range(300)]

async def all_of(pushing):
    await asyncio.gather(*pushing)

async def work_in_child():
    try:
        await store.push(bucket.id, [new_job()])
    except StoreUnavailable as error:
        assert "is a fork" in str(error) and "opens its own store" in str(error), error
        assert not isinstance(error, OutcomeUnknown)
    else:
        raise AssertionError("the parent's store was used")
    await store.close_store()
    async with opened(path) as own:
        await own.push(bucket.id, [new_job() for _ in range(10)])

store, bucket = call(prepare())
pushing = call(push_many())
child = os.fork()
if child == 0:
    asyncio.run(work_in_child())
    del store, pushing
    gc.collect()
    sys.exit(0)  # the interpreter is torn down, as after multiprocessing
call(all_of(pushing))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
call(store.push(bucket.id, [new_job()]))
depths = call(store.depths([bucket.id]))
assert depths == {bucket.id: 311}, depths
assert len(os.listdir(path + ".wake")) == 2, "the child left the parent's socket alone"
assert len(os.listdir(path + ".locks")) == 1, "and its lock"
call(store.close_store())
"""


def test_a_child_is_told_to_open_its_own_and_the_parent_goes_on(tmp_path: Path) -> None:
    for number in range(3):
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(tmp_path / f"{number}.db")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Error" not in done.stderr
        connection = sqlite3.connect(tmp_path / f"{number}.db")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


@in_loop
async def test_a_fork_waits_until_the_threads_are_outside_of_sqlite(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        inside, go_on = threading.Event(), threading.Event()

        def slow(tx: object) -> None:
            inside.set()
            go_on.wait(10)

        slow_write = store._write(slow)
        await asyncio.to_thread(inside.wait, 10)
        threading.Timer(0.2, go_on.set).start()
        child = os.fork()
        if child == 0:
            os._exit(0 if go_on.is_set() else 1)
        assert exit_code_of(child) == 0
        await slow_write
        await store.push(bucket.id, [new_job()])


OPENING = """
import asyncio, os, sys, threading, time
from jobmaster.ports.master import MasterRules
from jobmaster.stores.sql.sqlite import handle
from jobmaster.stores.sql.sqlite.store import SqliteStore

inside = threading.Event()
connect = handle.connect

def slowly(*arguments, **options):
    inside.set()
    time.sleep(0.3)
    connection = connect(*arguments, **options)
    inside.clear()
    return connection

handle.connect = slowly
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
opening = asyncio.run_coroutine_threadsafe(SqliteStore.open(sys.argv[1], rules=MasterRules()), loop)
assert inside.wait(20)
child = os.fork()
if child == 0:
    os._exit(int(inside.is_set()))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "forked while the thread was inside of SQLite"
asyncio.run_coroutine_threadsafe(opening.result(20).close_store(), loop).result(20)
"""


def test_a_fork_waits_for_a_store_that_is_just_being_opened(tmp_path: Path) -> None:
    """SQLite's own locks would be copied as they are held, and nobody would release them in the child."""
    done = subprocess.run(
        [sys.executable, "-c", OPENING, str(tmp_path / "j.db")], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
