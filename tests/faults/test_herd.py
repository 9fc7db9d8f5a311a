"""Many workers that start together, and all wake on one signal, do not run over their store."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

from jobmaster.model.states import JobStatus, Priority
from jobmaster.ports.master import MasterRules
from jobmaster.stores.sql.postgresql.store import PostgresStore
from jobmaster.stores.sql.sqlite.store import SqliteStore
from tests.engine.one_engine import Running, final, new_job, running_engine
from tests.engine.pool_workload import FunctionWorkload
from tests.engine.wrapped_store import Wrapped
from tests.faults.score import DEFAULTS, of_the_test

WORKERS = 30 if DEFAULTS else 8
"""Each has up to six connections; a test server has 300."""
SECONDS = 10.0 if DEFAULTS else 2.0


async def nothing(argument: object) -> None:
    pass


class Herd:
    """Engines with a store each, all on one loop; their claims are counted."""

    def __init__(self, address: str, stack: contextlib.AsyncExitStack) -> None:
        self._address = address
        self._stack = stack
        self.claims = 0

    async def open(self) -> Any:
        kind, address = (
            (PostgresStore, self._address) if self._address.startswith("postgresql") else (SqliteStore, self._address)
        )
        store = await kind.open(address, rules=MasterRules(lease_us=10_000_000))
        self._stack.push_async_callback(store.close_store)
        return store

    async def join(self, number: int) -> Running:
        store = await self.open()

        async def claim(*values: Any, **options: Any) -> Any:
            self.claims += 1
            return await store.claim(*values, **options)

        wrapped, seldom = Wrapped(store, claim=claim), {"lease": 10.0, "renew_every": 3.0}
        engine = running_engine(wrapped, FunctionWorkload(nothing), name=f"w{number}", **seldom)
        return await self._stack.enter_async_context(engine)

    async def claims_little(self, seconds: float) -> bool:
        """Whether from now on each of them makes two claims a second at most, and one at the beginning."""
        before, began = self.claims, time.monotonic()
        await asyncio.sleep(seconds)  # longer on a busy machine
        made, allowed = self.claims - before, WORKERS * (1 + 2 * (time.monotonic() - began))
        print(f"{made} claims, {allowed:.0f} are allowed")
        return made <= allowed


@pytest.mark.fault("G2")
@pytest.mark.alone
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_herd_that_starts_and_wakes_together_claims_twice_a_second_at_most(
    backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    address = request.getfixturevalue("postgres_database") if backend == "postgresql" else str(tmp_path / "herd.db")
    asyncio.run(start_and_wake(address))


async def start_and_wake(address: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        herd = Herd(address, stack)
        master = await herd.open()
        began = time.monotonic()
        await asyncio.gather(*(herd.join(number) for number in range(WORKERS)))
        of_the_test().struck("start of a herd", WORKERS)
        looks = len(Priority) + 2 + 2 * (time.monotonic() - began)
        assert herd.claims <= WORKERS * looks, "one for each bucket that is new, and two a second"
        assert await herd.claims_little(SECONDS)
        waking = asyncio.create_task(herd.claims_little(1.0))
        job = new_job("nothing")
        await master.hold([job])
        (state,) = await final(master, job.key)
        assert (state.status, state.attempts) == (JobStatus.SUCCEEDED, 1)
        assert await waking, "one wakes all, and each looks once or twice"
