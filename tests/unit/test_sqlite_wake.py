"""Signals between processes: who wants a topic hears of it soon, and who does not is left in peace."""

from __future__ import annotations

import asyncio
import itertools
import resource
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Self
from unittest.mock import Mock

import pytest

from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Envelope, NewJob, Outcome, encode_envelope
from jobmaster.model.states import JobStatus
from jobmaster.stores.sql.sqlite import wake
from jobmaster.stores.sql.sqlite.store import SqliteStore
from tests.unit.sqlite_place import (
    ENVELOPE,
    PAYLOAD,
    in_loop,
    mode_of,
    names_in,
    new_job,
    opened,
    owned_bucket,
    remove_empty,
)

pytestmark = pytest.mark.backend("sqlite")

OTHER = """
import asyncio, sys
from tests.unit.sqlite_place import opened, new_job

async def main():
    async with opened(sys.argv[1]) as store:
        print("ready", flush=True)
        for line in sys.stdin:
            verb, _, argument = line.strip().partition(" ")
            if verb == "push":
                await store.push(int(argument), [new_job()])
            elif verb == "hold":
                await store.hold([new_job()])
            elif verb == "signal":
                await store.signal([argument])
            print("done", flush=True)

asyncio.run(main())
"""


class OtherProcess:
    """A producer in a process of its own, told what to do line by line."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read()

    def _read(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    async def do(self, command: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        assert await asyncio.to_thread(self._read) == "done"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


class Heard:
    """Counts the calls for some topics and waits for them."""

    def __init__(self, store: SqliteStore, *topics: str) -> None:
        self.counts = dict.fromkeys(topics, 0)
        self._event = asyncio.Event()
        self.hints = [store.subscribe(topic, lambda topic=topic: self._hear(topic)) for topic in topics]

    def _hear(self, topic: str) -> None:
        self.counts[topic] += 1
        self._event.set()

    async def next(self, within: float = 20) -> None:
        await asyncio.wait_for(self._event.wait(), within)
        self._event.clear()


@in_loop
async def test_a_push_of_another_process_wakes_the_owner_of_the_bucket_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "SAFETY_PERIOD", 3_600)
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        heard = Heard(store, f"bucket:{bucket.id}", "bucket:77", "held", "worker:1")
        with OtherProcess(tmp_path / "a.db") as other:
            await other.do(f"push {bucket.id}")
            await heard.next()
            assert heard.counts == {f"bucket:{bucket.id}": 1, "bucket:77": 0, "held": 0, "worker:1": 0}
            await other.do("hold")
            await heard.next()
            assert heard.counts["held"] == 1
            await other.do("signal client:öffentlich und lang " + "x" * 300)
            await other.do("signal worker:1")
            await heard.next()
            assert heard.counts["worker:1"] == 1


@in_loop
async def test_a_topic_that_is_no_file_name_travels_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake, "SAFETY_PERIOD", 3_600)
    topic = "client:../../etc/pass~wd " + "x" * 300
    async with opened(tmp_path / "a.db") as store:
        heard = Heard(store, topic)
        with OtherProcess(tmp_path / "a.db") as other:
            await other.do(f"signal {topic}")
            await heard.next()
        names = names_in(tmp_path / "a.db.wake")
        assert len(names) == 2
        assert all(len(name) < 100 and "pass" not in name for name in names)


@in_loop
async def test_who_unsubscribed_hears_nothing_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "SAFETY_PERIOD", 3_600)
    async with opened(tmp_path / "a.db") as store:
        heard = Heard(store, "held", "worker:1")
        with OtherProcess(tmp_path / "a.db") as other:
            heard.hints[0].close()
            heard.hints[0].close()
            await other.do("hold")
            await other.do("signal worker:1")
            await heard.next()
        assert heard.counts == {"held": 0, "worker:1": 1}
        assert not [name for name in names_in(tmp_path / "a.db.wake") if name.startswith("held")]
    assert names_in(tmp_path / "a.db.wake") == []


@in_loop
async def test_stores_of_one_process_hear_each_other_without_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake.Wake, "_bind", lambda self: None)
    monkeypatch.setattr(wake, "BUSY_PERIOD", 3_600)
    monkeypatch.setattr(wake, "IDLE_PERIOD", 3_600)
    async with opened(tmp_path / "a.db") as worker, opened(tmp_path / "a.db") as producer:
        bucket = await owned_bucket(worker)
        heard = Heard(worker, f"bucket:{bucket.id}")
        await producer.push(bucket.id, [new_job()])
        await heard.next()


@pytest.mark.parametrize("limit", [10, 10_000], ids=["path too long", "path short enough"])
@in_loop
async def test_a_path_too_long_for_a_socket_uses_a_private_folder_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(wake, "LONGEST_PATH", limit)
    folder = Path(wake.folder_of(str(tmp_path / "a.db")))
    assert (folder.parent == tmp_path) == (limit > 10)
    async with opened(tmp_path / "a.db") as store:
        heard = Heard(store, "held")
        assert mode_of(folder) == 0o700
        assert len([name for name in names_in(folder) if name.endswith(".s")]) == 1
        await store.hold([new_job()])
        await heard.next()
    if limit == 10:
        remove_empty(folder)


def test_a_deep_folder_is_a_path_too_long(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    assert wake.folder_of(str(deep / "a.db")).startswith(("/tmp/jobmaster-", "/var/"))
    assert len(wake.folder_of(str(deep / "a.db"))) < 80


@in_loop
async def test_a_folder_that_others_can_write_to_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "a.db.wake").mkdir()
    (tmp_path / "a.db.wake").chmod(0o777)
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        heard = Heard(store, f"bucket:{bucket.id}")
        assert names_in(tmp_path / "a.db.wake") == []
        with OtherProcess(tmp_path / "a.db") as other:
            await other.do(f"push {bucket.id}")
            await heard.next()


@in_loop
async def test_without_sockets_polling_finds_what_others_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake.Wake, "_bind", lambda self: None)
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        heard = Heard(store, f"bucket:{bucket.id}")
        with OtherProcess(tmp_path / "a.db") as other:
            waits = []
            for _ in range(10):
                await other.do(f"push {bucket.id}")
                began = time.perf_counter()
                await heard.next()
                waits.append(time.perf_counter() - began)
        assert min(waits) < 0.05


@in_loop
async def test_where_sockets_work_the_safety_net_wakes_nobody_more_than_twice_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[float] = []
    clock = Mock(wraps=time)
    monkeypatch.setattr(wake, "time", clock)
    versions = itertools.count()
    connection = Mock()
    connection.execute.return_value.fetchone = lambda: (next(versions),)
    own = wake.Wake(str(tmp_path / "a.db"), asyncio.get_running_loop(), listening=lambda: None)
    try:
        own.subscribe("held", lambda: heard.append(clock.monotonic.return_value))
        for hundredth in range(401):
            clock.monotonic.return_value = hundredth / 100
            own.watch(connection)
            await asyncio.sleep(0)  # what it asked the loop for
    finally:
        own.close()
        own.end()
    # At 0 s it learns what is there; from then on there is something new each time.
    assert heard == [0.25 + 0.5 * number for number in range(8)]


@in_loop
async def test_the_safety_net_finds_a_commit_that_sent_no_signal(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        heard = Heard(store, "held", "worker:1", "workers")
        while store._wake._version < 0:  # the first look only learns where the count stands
            await asyncio.sleep(0.005)
        silent = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
        silent.execute("UPDATE jm_schema SET version_num = version_num")
        silent.close()
        await heard.next()
        await asyncio.sleep(0.05)
        # A worker's topic asks for a renewal, which is a commit: two processes would keep each other awake with it.
        assert heard.counts == {"held": 1, "worker:1": 0, "workers": 0}


@in_loop
async def test_the_files_of_a_killed_listener_are_removed(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        await store.hold([new_job()])
        folder = tmp_path / "a.db.wake"
        folder.mkdir(mode=0o700)
        dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        dead.bind(str(folder / "99999-dead.s"))
        dead.close()
        (folder / "held~99999-dead").touch()
        (folder / "worker=5~88888-gone").touch()
        await asyncio.sleep(0.03)
        await store.hold([new_job()])
        assert names_in(folder) == ["worker=5~88888-gone"], "found dead by the sender"
        heard = Heard(store, "held")
        assert sorted(name.partition("~")[0] for name in names_in(folder)) == sorted(
            ["held", store._wake.name + ".s"]
        ), "found dead by the next listener"
        assert heard.counts == {"held": 0}


@in_loop
async def test_the_verbs_signal_those_whom_they_concern(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        waits = Envelope("t", b"", 1, 1, reply_to="process-9")
        job = NewJob(new_job_key(), waits, encode_envelope(waits))
        heard = Heard(store, "client:process-9", "held", f"worker:{bucket.owner}", f"bucket:{bucket.id}")
        await store.push(bucket.id, [job])
        [message] = (await store.read(bucket.fence, None, limit=1, window_us=0)).messages
        retry = Outcome(
            job.key, 0, waits, message.payload, 1, JobStatus.HELD_ON_MASTER, 1, seq=message.seq, started_us=1
        )
        await store.settle(bucket.fence, [retry])
        await heard.next()
        await asyncio.sleep(0)
        assert heard.counts == {"client:process-9": 0, "held": 1, f"worker:{bucket.owner}": 0, f"bucket:{bucket.id}": 1}
        await store.cancel(job.key)
        other = new_job()
        await store.push(bucket.id, [other])
        await store.cancel(other.key)
        await store.send_command([bucket.owner or 0], "ping", b"{}")
        final = Outcome(new_job_key(), 0, waits, PAYLOAD, 1, JobStatus.SUCCEEDED, 1)
        nobody = Outcome(new_job_key(), 0, ENVELOPE, PAYLOAD, 1, JobStatus.SUCCEEDED, 1)
        await store.finish(bucket.fence, [final, nobody])
        await store.hold([new_job()])
        async with asyncio.timeout(20):
            while heard.counts["held"] < 2:  # its signal comes after those of all before it
                await heard.next()
        assert heard.counts == {"client:process-9": 2, "held": 2, f"worker:{bucket.owner}": 2, f"bucket:{bucket.id}": 2}


@pytest.mark.alone
@in_loop
async def test_a_worker_that_waits_for_signals_costs_next_to_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        Heard(store, f"bucket:{bucket.id}", "held", f"worker:{bucket.owner}")
        await asyncio.sleep(0.2)
        used = [await idle(seconds=1) for _ in range(3)]
        print(f"idle: {min(used):.2%} of a processor")
        assert min(used) < 0.005


async def idle(*, seconds: float) -> float:
    """The share of a processor that this process uses while nothing happens; other tests' threads may end meanwhile."""
    began = resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.sleep(seconds)
    ended = resource.getrusage(resource.RUSAGE_SELF)
    return (ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime) / seconds
