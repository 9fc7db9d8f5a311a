"""What a verb's function gets: a connection inside a transaction, the time, the rules, and where to leave signals."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import asyncpg

    from jobmaster.ports.master import MasterRules
    from jobmaster.stores.sql.job_rows import Row

CLOCK = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
"""The store's clock in a statement, microseconds: asked when it is computed, not when the transaction began."""

LONGEST_CHANNEL = 63

CLIENTS = 1_784_600
"""First class of the advisory locks that stand for "somebody listens for the ends of this client's jobs"."""
SLOTS = 16
"""Classes of them: sessions that commit at the same time use different ones, and so seldom meet each other there."""

TELL = f"""
CASE WHEN NOT pg_try_advisory_xact_lock({CLIENTS} + pg_backend_pid() % {SLOTS}, hashtext(channel))
    THEN pg_notify(channel, '') END
"""
"""Notify a client only if it listens: a NOTIFY makes the commits of all sessions follow one another.

Who begins to listen takes the locks of all slots shared, and so waits for commits that found nobody; then it looks.
"""

NOTIFY = "SELECT count(pg_notify(channel, '')) FROM unnest($1::text[]) AS channel"


class Setting(NamedTuple):
    """What is the same for every verb of a store."""

    rules: MasterRules
    clock_us: Callable[[], int] | None
    """A test's clock; None: the server's."""
    standalone: bool
    """Master and agent are this database."""


class Transaction:
    """One verb's work: everything that it did is undone if it raises.

    Attributes:
        now_us: the store's clock; judged anew by `tick` where it must be later than a lock.
        topics: signals that leave with the commit.
    """

    __slots__ = ("connection", "now_us", "rules", "setting", "standalone", "topics")

    def __init__(self, connection: asyncpg.Connection[Any], *, setting: Setting) -> None:
        self.connection = connection
        self.setting = setting
        self.rules = setting.rules
        self.standalone = setting.standalone
        self.now_us = 0
        self.topics: set[str] = set()

    async def tick(self) -> int:
        """Read the store's clock now: after the locks that the verb waits for."""
        clock = self.setting.clock_us
        self.now_us = await self.connection.fetchval(f"SELECT {CLOCK}") if clock is None else clock()
        return self.now_us

    async def rows(self, statement: str, *values: object) -> list[Row]:
        """All rows of a statement. A row can be indexed and unpacked like a tuple."""
        found: list[Row] = await self.connection.fetch(statement, *values)
        return found

    async def row(self, statement: str, *values: object) -> Row | None:
        """The first row of a statement, or None."""
        found: Row | None = await self.connection.fetchrow(statement, *values)
        return found

    async def value(self, statement: str, *values: object) -> Any:
        """The first column of the first row, or None."""
        return await self.connection.fetchval(statement, *values)

    async def changed(self, statement: str, *values: object) -> int:
        """Run a statement and say how many rows it changed."""
        status: str = await self.connection.execute(statement, *values)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def insert(
        self, statement: str, types: Sequence[str], rows: Sequence[Sequence[object]], tail: str = ""
    ) -> int:
        """Insert many rows in one step.

        Args:
            statement: `INSERT INTO table (columns)`.
            types: the type of each column.
            rows: values in the order of the columns.
            tail: what follows, such as ON CONFLICT.

        Returns:
            How many were inserted.
        """
        if not rows:
            return 0
        arrays = ", ".join(f"${index}::{kind}[]" for index, kind in enumerate(types, 1))
        columns = [list(column) for column in zip(*rows, strict=True)]
        return await self.changed(f"{statement} SELECT * FROM unnest({arrays}) {tail}", *columns)

    async def tell(self) -> None:
        """Send the signals. They leave when the transaction commits, each once."""
        if self.topics:
            await self.connection.fetchval(NOTIFY, [channel_of(topic) for topic in sorted(self.topics)])
            self.topics.clear()


def channel_of(topic: str) -> str:
    """The channel of LISTEN and NOTIFY for a topic; of a long topic by its digest, because a name has 63 bytes."""
    name = f"jm:{topic}"
    if len(name.encode()) <= LONGEST_CHANNEL:
        return name
    return f"jm:{blake2b(topic.encode(), digest_size=24).hexdigest()}"
