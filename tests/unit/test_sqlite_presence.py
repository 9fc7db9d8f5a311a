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
import os, subprocess, sys
from jobmaster.stores.sql.sqlite.presence import hold_presence
held = hold_presence(sys.argv[1], int(sys.argv[2]))
if sys.argv[3] == "with a grandchild":
    # Started while the lock is held: it must not inherit the lock.
    subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], close_fds=False)
print("held" if held else "not held", flush=True)
sys.stdin.read()
"""


def holder(path: Path, worker: int, how: str = "alone") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), str(worker), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


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
        bucket = await owned_bucket(store)
        process = holder(tmp_path / "a.db", bucket.owner or 0, how)
        assert await store.mark_lost() == [], "it lives"
        killed(process)
        [lost] = await store.mark_lost()
        assert (lost.id, lost.owner, lost.epoch, lost.status) == (bucket.id, None, 2, BucketStatus.LOST)
        [grant] = await store.renew([Renewal(bucket.owner or 0, 1)])
        assert grant.gone, "who was found gone stays ended"


@in_loop
async def test_a_worker_that_never_took_a_lock_is_judged_by_its_lease(tmp_path: Path) -> None:
    now = 1_800_000_000_000_000
    async with opened(tmp_path / "a.db", clock_us=lambda: now) as store:
        await owned_bucket(store)
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
        bucket = await owned_bucket(store)
        killed(holder(tmp_path / "a.db", bucket.owner or 0))
        file = Path(presence.lock_file(str(tmp_path / "a.db"), bucket.owner or 0))
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
async def test_a_released_lock_is_no_evidence_of_a_death(tmp_path: Path) -> None:
    """Who lets go by itself removes the file: its lease, or its own word, ends it."""
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        held = store.hold_presence(bucket.owner or 0)
        assert held
        held.release()
        held.release()
        assert await store.mark_lost() == []


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
        store.hold_presence(first.owner or 0)
        second = (await store.register(Registration("w", 2, "here", ("",), WorkerMode.FULL))).worker
        await store.create_buckets(second, [NewBucket("t2", "here", "", 3)])
        store.hold_presence(second)
        [lost] = await store.mark_lost()
        assert lost.id == first.id


@in_loop
async def test_closing_the_store_frees_its_locks(tmp_path: Path) -> None:
    store: SqliteStore
    async with opened(tmp_path / "a.db") as store:
        assert store.hold_presence(7)
        assert not presence.is_gone(str(tmp_path / "a.db"), 7)
    assert names_in(tmp_path / "a.db.locks") == []
