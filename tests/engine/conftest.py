"""Async tests of this folder run on a loop of their own, for at most a minute, on each kind of store."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest

from jobmaster.ports.master import MasterRules
from jobmaster.stores.memory import MemoryAgent, MemoryMaster, MemoryStore
from jobmaster.stores.split import SplitStore
from jobmaster.stores.sql.postgresql.store import PostgresStore
from jobmaster.stores.sql.sqlite.store import SqliteStore
from tests.engine.one_engine import LEASE

RULES = MasterRules(lease_us=round(LEASE * 1e6))


@dataclasses.dataclass(frozen=True)
class StoreToOpen:
    """A store that is opened on the test's own loop, and closed there."""

    kind: str
    folder: Path
    databases: list[str] = dataclasses.field(default_factory=list)
    """Addresses on a server, where the kind needs one."""

    async def open(self) -> Any:
        if self.kind == "memory":
            return MemoryStore(rules=RULES)
        if self.kind == "memory-split":
            return SplitStore(MemoryMaster(rules=RULES), {"standalone": MemoryAgent()})
        if self.kind == "postgresql":
            return await PostgresStore.open(self.databases[0], rules=RULES)
        store = await self._file("jobmaster.db", standalone=self.kind == "sqlite")
        if self.kind == "sqlite":
            return store
        return SplitStore(store, {"standalone": await self._file("agent.db", standalone=False)})

    async def _file(self, name: str, *, standalone: bool) -> Any:
        return await SqliteStore.open(str(self.folder / name), rules=RULES, standalone=standalone)


@pytest.fixture(params=["memory", "memory-split", "sqlite", "sqlite-split", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StoreToOpen:
    on_a_server = request.param == "postgresql"
    return StoreToOpen(request.param, tmp_path, [request.getfixturevalue("postgres_database")] if on_a_server else [])


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names if name in pyfuncitem.funcargs}

    async def run() -> None:
        given = arguments.get("store")
        if not isinstance(given, StoreToOpen):
            await pyfuncitem.obj(**arguments)
            return
        opened = await given.open()
        try:
            await pyfuncitem.obj(**{**arguments, "store": opened})
        finally:
            await opened.close_store()

    asyncio.run(asyncio.wait_for(run(), 60))
    return True
