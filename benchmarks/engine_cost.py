"""Processor time of one job in the engine: the real engine, pools and workload over a store that costs nothing.

The store is prefilled, answers each verb after a pause that takes no processor time, and forgets what it is told. What
is left is decoding, waiting, starting, running, the outcome and the flush. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import json
import os
import pstats
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from jobmaster import JobMaster
from jobmaster.engine.garbage import collect_rarely
from jobmaster.engine.links.memory import SharedMemory, create
from jobmaster.engine.pools.loop import LoopPool
from jobmaster.engine.pools.processes import ProcessPool
from jobmaster.engine.pools.sent import PoolLaunch
from jobmaster.engine.pools.threads import ThreadPool
from jobmaster.engine.tuning import Tuning
from jobmaster.engine.worker import Engine
from jobmaster.model.bucket import Bucket
from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Envelope, Message, Settled, Verdict, encode_envelope
from jobmaster.model.states import WorkerMode
from jobmaster.model.worker import Grant, Registered, Registration
from jobmaster.ports.agent import Cursor, Read, Takeover
from jobmaster.ports.master import Claimed
from jobmaster.runtime import SystemClock, workload_of

KINDS = ("async", "suspends", "threads", "processes", "at-most-once", "five-priorities")
_DAY_NS = 86_400 * 10**9

jm = JobMaster("engine-cost", master="sqlite:////nonexistent/never-opened.db")


@jm.task
async def nothing(_number: int) -> None:
    return None


@jm.task
async def suspends(_number: int) -> None:
    await asyncio.sleep(0)


@jm.task
def in_a_thread(_number: int) -> None:
    return None


TASKS = {"suspends": suspends, "threads": in_a_thread, "processes": in_a_thread}


def pool_workload(_arguments: bytes) -> Any:
    """The entry of a process of the pool."""
    return workload_of(jm, pool="processes")


class Link:
    """The engine's end of a link, with the shared memory of a real one."""

    def __init__(self) -> None:
        self._memory = SharedMemory(create())
        self.deliver: Any = None
        self.running = self._memory.note
        self.ended = self._memory.clear
        self.beat = self._memory.beat

    def report(self, report: Any) -> None:
        pass

    def on_grant(self, callback: Any) -> None:
        self.deliver = callback

    def trust_until_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) + _DAY_NS

    def condemn(self, reason: str) -> None:
        raise AssertionError(reason)


class Nothing:
    def close(self) -> None:
        pass


class FreeStore:
    """Prefilled buckets, numbered from 0; verbs that take `pause` seconds and no work."""

    gapless = True

    def __init__(self, buckets: dict[int, list[Message]], *, pause: float, standalone: bool) -> None:
        self.buckets = buckets
        self.standalone = standalone
        self.pause = pause
        self.left = sum(map(len, buckets.values()))
        self.settles = self.reads = 0
        self.done = asyncio.Event()

    async def register(self, _registration: Registration) -> Registered:
        return Registered(1, time.time_ns() // 1000)

    async def read(self, fence: Any, cursor: Cursor | None, *, limit: int, window_us: int) -> Read:
        await asyncio.sleep(self.pause)
        self.reads += 1
        begin = cursor.seq if cursor else 0
        messages = self.buckets[fence.bucket]
        end = min(begin + limit, len(messages))
        return Read(messages[begin:end], Cursor(end), time.time_ns() // 1000, more=end < len(messages))

    async def settle(self, _fence: Any, outcomes: list[Any]) -> list[Settled]:
        await asyncio.sleep(self.pause)
        self.settles += 1
        self.left -= len(outcomes)
        if not self.left:
            self.done.set()
        return [Settled(True)] * len(outcomes)

    async def take_over(self, _fence: Any, starts: list[Any]) -> list[Verdict]:
        await asyncio.sleep(self.pause)
        return [Verdict(True)] * len(starts)

    async def fence(self, _fence: Any) -> Takeover:
        return Takeover(0)

    async def recover_before(self, _fence: Any, **_: Any) -> int:
        return 0

    async def claim(self, _requests: Any, *, window_us: int) -> Claimed:
        return Claimed([], time.time_ns() // 1000)

    async def depths(self, buckets: Any) -> dict[int, int]:
        return dict.fromkeys(buckets, 0)

    async def give_up(self, _fence: Any) -> None:
        pass

    return_bucket = give_up

    async def end_worker(self, _worker: int) -> None:
        pass

    def subscribe(self, _topic: str, _callback: Any) -> Nothing:
        return Nothing()


def backlog(kind: str, count: int) -> dict[int, list[Message]]:
    task = TASKS.get(kind, nothing)
    priorities = (1, 2, 3, 4, 5) if kind == "five-priorities" else (3,)
    buckets: dict[int, list[Message]] = {priority: [] for priority in priorities}
    now = time.time_ns() // 1000 - 10_000_000
    for number in range(count):
        priority = priorities[number % len(priorities)]
        messages = buckets[priority]
        envelope = Envelope(
            task=task.name,
            call=jm.codec.encode_call((number,), {}),
            created_us=now,
            scheduled_us=now,
            priority=priority,
            at_most_once=kind == "at-most-once",
        )
        payload = encode_envelope(envelope)
        messages.append(Message(len(messages) + 1, priority, new_job_key(), 0, now, payload))
    return buckets


def grant(buckets: dict[int, list[Message]]) -> Grant:
    owned = [Bucket(number, "standalone", "", number, 1, owner=1, clean=True) for number in buckets]
    return Grant(1, time.time_ns() // 1000, owned)


def children_seconds() -> float:
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(one.user + one.system for one in times)


async def measure(kind: str, count: int, pause: float, slots: int, profiler: cProfile.Profile | None) -> dict[str, Any]:
    store = FreeStore(backlog(kind, count), pause=pause, standalone=True)
    link = Link()
    workload = workload_of(jm, pool="processes" if kind == "processes" else "threads")
    if kind == "processes":
        launch = PoolLaunch("engine_cost:pool_workload", b"")
        sync_pool: Any = ProcessPool(launch, size=2, max_tasks_per_child=None, random=lambda: 0.5)
        while len(sync_pool._idle) < 2:  # noqa: ASYNC110, SLF001 - both processes have come up
            await asyncio.sleep(0.01)
    else:
        sync_pool = ThreadPool(workload, size=slots)
    engine = Engine(
        store=store,  # type: ignore[arg-type]
        link=link,  # type: ignore[arg-type]
        clock=SystemClock(),
        workload=workload,
        async_pool=LoopPool(workload),
        sync_pool=sync_pool,
        tuning=Tuning(slots=slots, mode=WorkerMode.EXECUTION, buckets=dict.fromkeys(store.buckets, 1)),
        registration=Registration(name="w", boot=1, agent="standalone", lanes=("",), mode=WorkerMode.EXECUTION),
        seed=1,
    )
    collect_rarely()
    running = asyncio.create_task(engine.run())
    await asyncio.sleep(0.05)
    children, wall, begun = children_seconds(), time.perf_counter(), time.process_time()
    if profiler is not None:
        profiler.enable()
    link.deliver(grant(store.buckets))
    await store.done.wait()
    if profiler is not None:
        profiler.disable()
    own, wall = time.process_time() - begun, time.perf_counter() - wall
    children = children_seconds() - children
    engine.stop(1)
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return {
        "us": own / count * 1e6,
        "children_us": children / count * 1e6,
        "wall_us": wall / count * 1e6,
        "settle_batch": count / store.settles,
    }


def run(kind: str, options: argparse.Namespace, profiler: cProfile.Profile | None = None) -> dict[str, Any]:
    counts = {"async": 1.0, "five-priorities": 1.0, "processes": 0.25}
    count = max(1000, int(options.jobs * counts.get(kind, 0.5)))
    job = measure(kind, count, options.pause / 1e3, options.slots, profiler)
    if options.loop == "uvloop":
        import uvloop

        return uvloop.run(job)
    return asyncio.run(job)


def interleaved(kinds: list[str], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Each kind in a process of its own, this tree and the other one in turn; medians."""
    trees = {"here": Path(__file__).resolve().parent.parent, **({"other": options.against} if options.against else {})}
    found: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
        for _ in range(options.repeat):
            for name, tree in trees.items():
                command = [sys.executable, __file__, "--one", kind, "--jobs", str(options.jobs), "--loop", options.loop,
                           "--pause", str(options.pause), "--slots", str(options.slots)]  # fmt: skip
                place = {"PYTHONPATH": f"{tree}:{Path(__file__).resolve().parent}", "PATH": "/usr/bin:/bin"}
                answer = subprocess.run(command, env=place, cwd=tree, capture_output=True, text=True, check=False)
                assert answer.returncode == 0, answer.stderr
                results[name].append(json.loads(answer.stdout.splitlines()[-1]))
        for name, runs in results.items():
            if runs:
                found[f"{kind} {name}"] = {key: statistics.median(one[key] for one in runs) for key in runs[0]}
                print(f"{kind:16} {name:6}", *(f"{key}={value:8.1f}" for key, value in found[f"{kind} {name}"].items()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=[], help=", ".join(KINDS))
    parser.add_argument("--jobs", type=int, default=40_000)
    parser.add_argument("--slots", type=int, default=100)
    parser.add_argument("--pause", type=float, default=4.0, help="ms that the store takes")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--against", type=Path, help="another checkout, measured in turn with this one")
    parser.add_argument("--profile", choices=KINDS, help="functions of one kind by their own time")
    parser.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # for the processes of a pool
    sys.modules["engine_cost"] = sys.modules["__main__"]
    if options.one:
        answer = run(options.one, options)
        print(json.dumps({**answer, "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
    elif options.profile:
        profiler = cProfile.Profile(time.thread_time)
        run(options.profile, options, profiler)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(45)
    else:
        found = interleaved(options.kinds or list(KINDS), options)
        if options.json:
            options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
