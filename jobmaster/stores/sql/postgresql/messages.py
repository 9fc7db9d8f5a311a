"""Messages that leave because the master, in the same database, knows their jobs at least as well (R13)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobmaster.model.job import Outcome, Start
    from jobmaster.stores.sql.postgresql.transaction import Transaction

KEEP = "SELECT count(*) FROM (SELECT FROM jm_message WHERE seq = ANY($1::bigint[]) ORDER BY seq FOR UPDATE) AS kept"
REMOVE = "DELETE FROM jm_message WHERE seq = ANY($1::bigint[])"


async def keep(transaction: Transaction, jobs: Iterable[Outcome | Start]) -> None:
    """Hold the messages of these jobs, so that a cancel decides about them before or after."""
    seqs = [job.seq for job in jobs if job.seq is not None]
    if seqs:
        await transaction.value(KEEP, seqs)


async def remove(transaction: Transaction, jobs: Iterable[Outcome | Start]) -> None:
    """Remove the messages of these jobs; some have none."""
    seqs = [job.seq for job in jobs if job.seq is not None]
    if seqs:
        await transaction.changed(REMOVE, seqs)
