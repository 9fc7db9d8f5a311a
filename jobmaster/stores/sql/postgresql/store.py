"""`PostgresStore`: a database as master and agent in one, or as one of them behind a SplitStore."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

from jobmaster.rules.storable import check_jobs
from jobmaster.settings.dsn import parse_dsn
from jobmaster.stores.sql.postgresql.agent_verbs import AgentVerbs
from jobmaster.stores.sql.postgresql.connection import SESSION_OPTIONS
from jobmaster.stores.sql.postgresql.direct import Direct, is_possible
from jobmaster.stores.sql.postgresql.job_verbs import JobVerbs
from jobmaster.stores.sql.postgresql.lease_verbs import LeaseVerbs
from jobmaster.stores.sql.postgresql.people import PeopleVerbs
from jobmaster.stores.sql.postgresql.schedule_verbs import ScheduleVerbs
from jobmaster.stores.sql.postgresql.upkeep_verbs import UpkeepVerbs

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.ports.direct import Handed
    from jobmaster.ports.master import MasterRules

ACCEPT_TIMEOUT = 5.0


class PostgresStore(ScheduleVerbs, LeaseVerbs, JobVerbs, AgentVerbs, UpkeepVerbs, PeopleVerbs):
    """Store and QueryStore on PostgreSQL. Make it with `open`, on the loop that will use it."""

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        rules: MasterRules,
        auto_provision: bool = True,
        clock_us: Callable[[], int] | None = None,
        standalone: bool = True,
        timeout: float = ACCEPT_TIMEOUT,
    ) -> PostgresStore:
        """Connect, and make the tables where there are none.

        Args:
            url: the address. `session_host=` and `session_port=` in its query say where the server itself is if the
                address is that of a PgBouncer in transaction mode.
            rules: the cluster's settings that statements need.
            auto_provision: False: a missing or older schema is an error instead.
            clock_us: the store's clock, for tests; None: the server's.
            standalone: False where this database is only the master or only the agent.
            timeout: seconds for one verb.

        Raises:
            ConfigurationError: the address, user, database or a right is wrong; the text says which.
            SchemaError: its schema is missing, older or newer, and is not to be changed.
            StoreUnavailable: the server does not answer.
        """
        if cls is PostgresStore and is_possible() and not parse_dsn(url).options.keys() & set(SESSION_OPTIONS):
            cls = ThreadedPostgresStore  # noqa: PLW0642 - one way in, whatever is installed
        store = cls(
            url,
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


class ThreadedPostgresStore(PostgresStore):
    """The same where libpq is there, too: threads push without a loop (ports.direct)."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._direct = Direct(self._place, self._setting)

    def hand(self, handed: Handed) -> None:
        """See `ports.direct.DirectAgent`."""
        self._require_usable()
        check_jobs(handed.jobs, self._rough_now_us())
        self._direct.hand(handed)

    def take_back(self, handed: Handed) -> bool:
        """See `ports.direct.DirectAgent`."""
        return self._direct.take_back(handed)

    async def close_store(self) -> None:
        if os.getpid() == self._pid:
            self._direct.close()
            patience = time.monotonic() + self._patience
            # Not joined: at the end of a program there is no thread any more that could wait for another.
            while not self._direct.ended and time.monotonic() < patience:  # noqa: ASYNC110 - other threads end it
                await asyncio.sleep(0.005)
        await super().close_store()
