"""Jobs enqueued inside transactions that commit, roll back, or lose their connection, also in the middle of the COMMIT.

Each transaction inserts an order and enqueues its job. Whatever happened, afterwards there are exactly as many orders
as jobs, pair by pair: no ghost (a job whose order does not exist) and no orphan (an order without its job).

    python -m tests.faults.transactional_campaign --count 100000
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import threading
from collections import Counter
from typing import Any

import psycopg
import sqlalchemy
from sqlalchemy.pool import NullPool

from jobmaster import JobMaster
from tests.servers.databases import databases
from tests.servers.fault_proxy import FaultProxy

LOST = (psycopg.Error, sqlalchemy.exc.DBAPIError, OSError)
CUTS = 0.03
"""The share of commits at which the proxy cuts, half of them before the server has heard it and half after."""

ORDER = "INSERT INTO orders (job) VALUES ('{job}')"
PAIRS = """
SELECT count(*) FILTER (WHERE o.job IS NULL), count(*) FILTER (WHERE j.id IS NULL), count(*)
FROM jm_job j FULL OUTER JOIN orders o ON o.job = j.id
"""


class Producer(threading.Thread):
    """Runs its share of the transactions, each with an end drawn by chance."""

    def __init__(self, task: Any, dsn: str, *, seed: int, count: int, through_sqlalchemy: bool) -> None:
        super().__init__(name=f"producer-{seed}", daemon=True)
        self._task = task
        self._dsn = dsn
        self._random = random.Random(seed)
        self._count = count
        self._engine = None
        if through_sqlalchemy:
            self._engine = sqlalchemy.create_engine(dsn.replace("://", "+psycopg://", 1), poolclass=NullPool)
        self.ends: Counter[str] = Counter()

    def run(self) -> None:
        left = self._count
        while left:
            try:
                with self._connected() as connection:
                    while left:
                        left -= 1
                        self._transaction(connection)
            except LOST:
                self.ends["cut"] += 1

    def _connected(self) -> Any:
        return psycopg.connect(self._dsn) if self._engine is None else self._engine.connect()

    def _transaction(self, connection: Any) -> None:
        result = self._task.options(transaction=connection).delay(number=self._count)
        statement = ORDER.format(job=result.id)
        connection.execute(statement if self._engine is None else sqlalchemy.text(statement))
        end = self._random.choices(("commit", "rollback", "abandon"), weights=(70, 25, 5))[0]
        if end == "abandon":
            # The program closes its socket in the middle of the transaction.
            raw = connection if self._engine is None else connection.connection.driver_connection
            raw.pgconn.finish()
            raise OSError("abandoned")
        (connection.commit if end == "commit" else connection.rollback)()
        self.ends[end] += 1


def campaign(dsn: str, *, count: int, seed: int, producers: int = 8) -> tuple[Counter[str], tuple[int, int, int]]:
    """Run it. Returns how the transactions ended, and (ghosts, orphans, pairs)."""
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE orders (job uuid PRIMARY KEY)")
    app = JobMaster("orders", master=dsn)

    @app.task
    def ship(number: int) -> None:
        """Never run here."""

    chance = random.Random(seed)
    with FaultProxy(dsn) as proxy:
        for moment in ("before", "after"):
            proxy.cut_when(moment, lambda end: end.changes and chance.random() < CUTS / 2)
        threads = [
            Producer(
                ship,
                proxy.dsn(dsn),
                seed=seed * 100 + number,
                count=count // producers,
                through_sqlalchemy=bool(number % 2),
            )
            for number in range(producers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    app.close()
    ends: Counter[str] = Counter()
    for thread in threads:
        ends.update(thread.ends)
    with psycopg.connect(dsn) as connection:
        # A transaction whose client is gone ends when its server process notices.
        connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        found = connection.execute(PAIRS).fetchone()
    assert found is not None
    return ends, found


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=100_000)
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    with databases().lent() as dsn, contextlib.suppress(KeyboardInterrupt):
        ends, (ghosts, orphans, pairs) = campaign(dsn, count=chosen.count, seed=chosen.seed)
        print(f"{chosen.count:,} transactions: {dict(ends)}; {pairs:,} jobs, {ghosts} ghosts, {orphans} orphans")
        return 1 if ghosts or orphans else 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
