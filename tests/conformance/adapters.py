"""The stores under test. A new adapter adds a function here and its name to ADAPTERS; the cases stay as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobmaster.ports.master import MasterRules
from jobmaster.stores.memory import MemoryAgent, MemoryMaster, MemoryStore
from jobmaster.stores.memory.variants import without
from jobmaster.stores.split import SplitStore
from tests.conformance.commits import GATE_TRIGGERS, Commits, CommitsInMemory, CommitsOnServer, NeverHeld
from tests.servers.databases import databases

if TYPE_CHECKING:
    from jobmaster.stores.sql.postgresql.store import PostgresStore

AGENT = "here"
"""The name of the only agent of the clusters under test."""


@dataclass
class Place:
    """Where one test's stores live, and what they are made with."""

    folder: Path
    clock_us: Callable[[], int]
    rules: MasterRules
    removed: frozenset[str] = frozenset()
    late_commits: Callable[[], Awaitable[None]] | None = None
    """What a store in memory awaits between its row locks and its commit."""
    kept: dict[str, Any] = field(default_factory=dict)
    """What a second connection must share with the first one (a store in memory has only itself)."""
    gated: bool = False
    """The case holds commits: databases on a server have what that needs from the beginning, which saves time."""
    databases: list[str] = field(default_factory=list)
    """The addresses of the databases on a server."""
    on_server: list[PostgresStore] = field(default_factory=list)
    """The stores that were opened on them."""
    closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """What is given back when the case has ended and its stores are closed."""


async def memory(place: Place) -> Any:
    if "store" not in place.kept:
        kind = without(MemoryStore, place.removed)
        place.kept["store"] = kind(rules=place.rules, clock=place.clock_us, late_commits=place.late_commits)
    return place.kept["store"]


async def memory_split(place: Place) -> Any:
    if "master" not in place.kept:
        options: dict[str, Any] = {"clock": place.clock_us, "late_commits": place.late_commits}
        place.kept["master"] = without(MemoryMaster, place.removed)(rules=place.rules, **options)
        place.kept["agent"] = without(MemoryAgent, place.removed)(**options)
    return without(SplitStore, place.removed)(place.kept["master"], {AGENT: place.kept["agent"]})


async def sqlite(place: Place) -> Any:
    return await _sqlite_file(place, "cluster.db", standalone=True)


async def sqlite_split(place: Place) -> Any:
    master = await _sqlite_file(place, "master.db", standalone=False)
    agent = await _sqlite_file(place, "agent.db", standalone=False)
    return without(SplitStore, place.removed & {"early_ack"})(master, {AGENT: agent})


async def _sqlite_file(place: Place, name: str, *, standalone: bool) -> Any:
    from jobmaster.stores.sql.sqlite.store import SqliteStore

    return await SqliteStore.open(
        str(place.folder / name),
        rules=place.rules,
        auto_provision=True,
        clock_us=place.clock_us,
        standalone=standalone,
    )


async def postgresql(place: Place) -> Any:
    return await _postgresql_database(place, "cluster", standalone=True)


async def postgresql_split(place: Place) -> Any:
    master = await _postgresql_database(place, "master", standalone=False)
    agent = await _postgresql_database(place, "agent", standalone=False)
    return without(SplitStore, place.removed & {"early_ack"})(master, {AGENT: agent})


async def _postgresql_database(place: Place, name: str, *, standalone: bool) -> Any:
    from jobmaster.stores.sql.postgresql.store import PostgresStore

    if name not in place.kept:
        place.kept[name] = place.closing.enter_context(databases().lent(more=GATE_TRIGGERS if place.gated else ""))
        place.databases.append(place.kept[name])
    store = await PostgresStore.open(
        place.kept[name],
        rules=place.rules,
        auto_provision=True,
        clock_us=place.clock_us,
        standalone=standalone,
    )
    place.on_server.append(store)
    return store


@dataclass(frozen=True)
class Adapter:
    """A kind of store.

    `commits`: how its transactions are held open. `lasting`: what it holds outlives its connections. `needs`: the
    fixture that skips a test where the store's server cannot be had.
    """

    name: str
    open: Callable[[Place], Awaitable[Any]]
    standalone: bool
    commits: Callable[[Place], Commits] = NeverHeld
    lasting: bool = True
    needs: str | None = None


ADAPTERS = {
    adapter.name: adapter
    for adapter in (
        Adapter("memory", memory, standalone=True, commits=CommitsInMemory, lasting=False),
        Adapter("memory-split", memory_split, standalone=False, commits=CommitsInMemory, lasting=False),
        Adapter("sqlite", sqlite, standalone=True),
        Adapter("sqlite-split", sqlite_split, standalone=False),
        Adapter("postgresql", postgresql, standalone=True, commits=CommitsOnServer, needs="postgres_databases"),
        Adapter(
            "postgresql-split", postgresql_split, standalone=False, commits=CommitsOnServer, needs="postgres_databases"
        ),
    )
}


def with_locks() -> Collection[str]:
    """The names of the adapters whose transactions wait for each other, and can be held."""
    return [name for name, adapter in ADAPTERS.items() if adapter.commits is not NeverHeld]
