"""A PostgreSQL store for tests of its own parts: opened, with a clock of the test's, and jobs to put into it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Envelope, NewJob, encode_envelope
from jobmaster.ports.master import MasterRules
from jobmaster.stores.sql.postgresql.store import PostgresStore


@asynccontextmanager
async def opened(
    dsn: str, *, clock_us: Callable[[], int] | None = None, **options: Any
) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(dsn, rules=MasterRules(), clock_us=clock_us, **options)
    try:
        yield store
    finally:
        await store.close_store()


def new_job(**changes: Any) -> NewJob:
    envelope = Envelope(**{"task": "t", "call": b"", "created_us": 1, "scheduled_us": 1, **changes})
    return NewJob(key=new_job_key(), envelope=envelope, payload=encode_envelope(envelope))
