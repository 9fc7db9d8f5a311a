"""`SqliteStore`: a database file as master and agent in one, or as one of them behind a SplitStore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.stores.sql.sqlite import buckets, finish, start
from jobmaster.stores.sql.sqlite.agent_verbs import AgentVerbs
from jobmaster.stores.sql.sqlite.master_verbs import MasterVerbs
from jobmaster.stores.sql.sqlite.people import PeopleVerbs
from jobmaster.stores.sql.sqlite.schedule_verbs import ScheduleVerbs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobmaster.model.job import Fence, Outcome, Settled, Start, Verdict
    from jobmaster.ports.master import MasterRules

ACCEPT_TIMEOUT = 5.0


class SqliteStore(MasterVerbs, AgentVerbs, ScheduleVerbs, PeopleVerbs):
    """Store and QueryStore on an SQLite file. Make it with `open`, on the loop that will use it."""

    @classmethod
    async def open(
        cls,
        path: str,
        *,
        rules: MasterRules,
        auto_provision: bool = True,
        clock_us: Callable[[], int] | None = None,
        standalone: bool = True,
        timeout: float = ACCEPT_TIMEOUT,
    ) -> SqliteStore:
        """Open the file, and make it and its tables where they are not there.

        Args:
            path: the database file; its folder exists.
            rules: the cluster's settings that statements need.
            auto_provision: False: a missing or older schema is an error instead.
            clock_us: the store's clock, for tests; None: this host's.
            standalone: False where this file is only the master or only the agent.
            timeout: seconds to wait for other processes' locks.

        Raises:
            ConfigurationError: the file can't be made or is no database; the text says why.
            SchemaError: its schema is missing, older or newer, and is not to be changed.
            StoreUnavailable: it is locked, or the disk is full.
        """
        store = cls(
            path,
            rules=rules,
            auto_provision=auto_provision,
            clock_us=clock_us,
            standalone=standalone,
            patience=timeout,
        )
        await store._open()
        return store

    @property
    def standalone(self) -> bool:
        """True: rows and messages are one database."""
        return self._setting.standalone

    async def settle(self, fence: Fence, outcomes: Sequence[Outcome]) -> list[Settled]:
        return await self._write(lambda tx: finish.settle(tx, fence, outcomes))

    async def take_over(self, fence: Fence, starts: Sequence[Start]) -> list[Verdict]:
        return await self._write(lambda tx: start.take_over(tx, fence, starts))

    async def set_free(self, fence: Fence, jobs: Sequence[Outcome], *, ended: bool) -> None:
        await self._write(lambda tx: finish.set_free(tx, fence, jobs, ended=ended))

    async def drain(self, fence: Fence, *, limit: int) -> bool:
        return await self._write(lambda tx: buckets.drain(tx, fence, limit))

    async def drain_orphan(self, bucket: int, *, limit: int) -> bool:
        return await self._write(lambda tx: buckets.drain_orphan(tx, bucket, limit))
