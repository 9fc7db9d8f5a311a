"""Jobs in processes of their own: a death takes one run with it, coroutines run there too, idle processes end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

from jobmaster.engine.pools.apart import ApartPool
from jobmaster.engine.pools.sent import PoolLaunch
from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Envelope, encode_envelope
from jobmaster.model.run import End, Ended, Finished, Halt, Run
from tests.engine.one_engine import until


def new_run(task: str) -> Run:
    envelope = Envelope(task=task, call=b"", created_us=1, scheduled_us=1)
    return Run(new_job_key(), envelope, encode_envelope(envelope), 1, 0, 0, 1, None, None, None, "w", None)


@asynccontextmanager
async def apart(**options: float) -> AsyncIterator[tuple[ApartPool, dict[bytes, Ended]]]:
    pool = ApartPool(PoolLaunch("tests.engine.apart_workload:workload", b""), random=lambda: 0.5, **options)
    ends: dict[bytes, Ended] = {}

    def finished(told: list[Finished]) -> None:
        ends.update({run.key: ended for run, ended, _ in told})

    pool.finished = finished
    try:
        yield pool, ends
    finally:
        await pool.close()


def processes() -> list[psutil.Process]:
    """Those of the pool; a test server is a child of ours, too."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [child] * ("process_child" in " ".join(child.cmdline()))
    return found


async def test_a_death_takes_one_run_with_it_and_names_the_signal() -> None:
    async with apart() as (pool, ends):
        dies, waits = new_run("dies"), new_run("waits")
        pool.submit([dies, waits])
        await until(lambda: dies.key in ends)
        assert (ends[dies.key].end, ends[dies.key].reason) == (End.CRASHED, signal.Signals.SIGSEGV.name)
        assert waits.key not in ends
        assert pool.halt(waits.key, Halt.CANCEL)
        await until(lambda: waits.key in ends)
        assert ends[waits.key].end is End.CANCELLED
        assert not pool.halt(waits.key, Halt.CANCEL), "it has ended"


async def test_coroutines_run_there_on_a_loop_that_stays() -> None:
    async with apart() as (pool, ends):
        for _ in range(2):
            run = new_run("coroutine")
            pool.submit([run])
            await until(lambda run=run: run.key in ends)
        first, second = (ended.result for ended in ends.values())
        assert first == second, "the same process and the same loop"
        assert first is not None
        assert str(os.getpid()).encode() not in first


async def test_a_soft_limit_is_raised_inside_a_coroutine() -> None:
    async with apart() as (pool, ends):
        run = new_run("sleeps")
        pool.submit([run])
        await until(processes)
        await asyncio.sleep(0)
        while run.key not in ends:  # until the coroutine has begun to sleep, nothing is there to be told
            pool.halt(run.key, Halt.SOFT_LIMIT)
            await asyncio.sleep(0.05)
        assert ends[run.key].result == b"told"


async def test_a_soft_limit_that_passes_before_the_run_has_come_to_its_process_is_raised_there() -> None:
    async with apart() as (pool, ends):
        first, late = new_run("coroutine"), new_run("sleeps")
        pool.submit([first])
        await until(lambda: first.key in ends)
        (process,) = processes()
        process.suspend()
        pool.submit([late])
        assert pool.halt(late.key, Halt.SOFT_LIMIT)
        process.resume()
        await until(lambda: late.key in ends)
        assert ends[late.key].result == b"told"


async def test_processes_in_which_nothing_runs_end_after_a_while() -> None:
    async with apart(idle=0.05) as (pool, ends):
        run = new_run("coroutine")
        pool.submit([run])
        await until(lambda: run.key in ends)
        await until(lambda: not processes())
        again = new_run("coroutine")
        pool.submit([again])
        await until(lambda: again.key in ends)


async def test_one_long_run_does_not_keep_the_processes_of_all_others() -> None:
    async with apart(idle=0.05) as (pool, ends):
        waits, others = new_run("waits"), [new_run("coroutine") for _ in range(2)]
        pool.submit([waits, *others])
        await until(lambda: all(run.key in ends for run in others))
        await until(lambda: len(processes()) == 1)
        assert waits.key not in ends
