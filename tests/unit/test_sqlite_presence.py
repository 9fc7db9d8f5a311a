"""A worker's lock file says at once that its process is gone, and never that a living one is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobmaster.model.bucket import NewBucket
from jobmaster.model.states import BucketStatus, WorkerMode
from jobmaster.model.worker import Registration, Renewal
from jobmaster.stores.sql.sqlite import presence
from jobmaster.stores.sql.sqlite.store import SqliteStore
from tests.unit.sqlite_place import exit_code_of, in_loop, names_in, opened, owned_bucket, write

pytestmark = pytest.mark.backend("sqlite")

HOLDER = """
import asyncio, os, subprocess, sys
from jobmaster.ports.master import MasterRules
from jobmaster.stores.sql.sqlite.store import SqliteStore
from tests.unit.sqlite_place import owned_bucket

async def register(path):
    store = await SqliteStore.open(path, rules=MasterRules())  # never closed: this process is killed
    return store, await owned_bucket(store)

store, bucket = asyncio.run(register(sys.argv[1]))
if sys.argv[2] == "with a grandchild":
    # Started while the lock is held: it must not inherit the lock.
    subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], close_fds=False)
print(f"{bucket.id} {bucket.owner}", flush=True)
sys.stdin.read()
"""


def worker_elsewhere(path: Path, how: str = "alone") -> tuple[subprocess.Popen[str], int, int]:
    """A process that has registered as a worker, with its bucket and the worker's id."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    bucket, worker = process.stdout.readline().split()
    return process, int(bucket), int(worker)


def killed(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert process.stdin
    assert process.stdout
    process.stdin.close()
    process.stdout.close()


@pytest.mark.parametrize("how", ["alone", "with a grandchild"])
@in_loop
async def test_the_buckets_of_a_killed_process_are_lost_at_once(tmp_path: Path, how: str) -> None:
    async with opened(tmp_path / "a.db") as store:
        process, bucket, worker = worker_elsewhere(tmp_path / "a.db", how)
        assert await store.mark_lost() == [], "it lives"
        killed(process)
        [lost] = await store.mark_lost()
        assert (lost.id, lost.owner, lost.epoch, lost.status) == (bucket, None, 2, BucketStatus.LOST)
        [grant] = await store.renew([Renewal(worker, 1)])
        assert grant.gone, "who was found gone stays ended"
        assert names_in(tmp_path / "a.db.locks") == []


@in_loop
async def test_a_worker_without_a_lock_is_judged_by_its_lease(tmp_path: Path) -> None:
    now = 1_800_000_000_000_000
    async with opened(tmp_path / "a.db", clock_us=lambda: now) as store:
        bucket = await owned_bucket(store)
        held = store.hold_presence(bucket.owner or 0)
        assert held
        held.release()
        assert await store.mark_lost() == []
        now += 10_000_000
        assert len(await store.mark_lost()) == 1


@in_loop
async def test_a_lock_that_is_held_does_not_save_a_worker_that_hangs(tmp_path: Path) -> None:
    now = 1_800_000_000_000_000
    async with opened(tmp_path / "a.db", clock_us=lambda: now) as store:
        bucket = await owned_bucket(store)
        assert store.hold_presence(bucket.owner or 0)
        now += 10_000_000
        assert len(await store.mark_lost()) == 1


@in_loop
async def test_a_lock_file_of_another_host_says_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        process, _, worker = worker_elsewhere(tmp_path / "a.db")
        killed(process)
        file = Path(presence.lock_file(str(tmp_path / "a.db"), worker))
        write(file, "elsewhere 123")
        assert await store.mark_lost() == []
        write(file, "")
        assert await store.mark_lost() == [], "a worker that is about to take its lock"


@in_loop
async def test_a_lock_is_held_once_and_goes_with_its_worker(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store, opened(tmp_path / "a.db") as other:
        bucket = await owned_bucket(store)
        owner = bucket.owner or 0
        held = store.hold_presence(owner)
        assert held
        assert store.hold_presence(owner) is held
        assert other.hold_presence(owner) is None
        assert await other.mark_lost() == []
        await store.end_worker(owner)
        assert names_in(tmp_path / "a.db.locks") == []


@in_loop
async def test_old_files_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        assert store.hold_presence(1)
        for worker in (2, 3):
            write(Path(presence.lock_file(str(tmp_path / "a.db"), worker)), presence.this_host())
        for worker in (1, 2):
            os.utime(presence.lock_file(str(tmp_path / "a.db"), worker), (1, 1))
        assert store.hold_presence(4)
        assert names_in(tmp_path / "a.db.locks") == ["worker-1.lock", "worker-3.lock", "worker-4.lock"]


@in_loop
async def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        held = store.hold_presence(bucket.owner or 0)
        assert held
        reading, writing = os.pipe()
        lives, says = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.write(says, b"!")
            os.read(reading, 1)
            os._exit(0)
        try:
            assert os.read(lives, 1) == b"!"
            assert held._fd is not None
            os.close(held._fd)  # as the kernel does when this process dies
            held._fd = None
            assert presence.is_gone(str(tmp_path / "a.db"), bucket.owner or 0)
        finally:
            os.close(writing)
            for end in (reading, lives, says):
                os.close(end)
            exit_code_of(child)


@in_loop
async def test_a_new_boot_of_the_name_does_not_disturb_the_locks_of_others(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        first = await owned_bucket(store)
        second = (await store.register(Registration("w", 2, "here", ("",), WorkerMode.FULL))).worker
        await store.create_buckets(second, [NewBucket("t2", "here", "", 3)])
        [lost] = await store.mark_lost()
        assert lost.id == first.id


@in_loop
async def test_closing_the_store_frees_its_locks(tmp_path: Path) -> None:
    store: SqliteStore
    async with opened(tmp_path / "a.db") as store:
        assert store.hold_presence(7)
        assert not presence.is_gone(str(tmp_path / "a.db"), 7)
    assert names_in(tmp_path / "a.db.locks") == []
