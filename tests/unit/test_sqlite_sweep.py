"""Rows whose bucket is gone come about only when something went wrong; the sweep repairs them all the same (I5)."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobmaster.model.job import Start
from jobmaster.model.states import JobStatus
from tests.unit.sqlite_place import ENVELOPE, PAYLOAD, in_loop, new_job, opened, owned_bucket

pytestmark = pytest.mark.backend("sqlite")


@in_loop
async def test_rows_of_a_bucket_that_is_gone_are_taken_back_and_others_left(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        gone, kept = await owned_bucket(store), await owned_bucket(store, name="v")
        jobs = [new_job() for _ in range(3)]
        for bucket, job in ((gone, jobs[0]), (gone, jobs[1]), (kept, jobs[2])):
            await store.start(bucket.fence, [Start(job.key, 0, 1, ENVELOPE, PAYLOAD, 1)])
        await store._write(lambda tx: tx.execute("DELETE FROM jm_bucket WHERE id = ?", (gone.id,)))
        assert await store.sweep(overdue_us=60_000_000, limit=10) == 0, "not overdue yet"
        assert await store.sweep(overdue_us=-1_000_000, limit=1) == 1
        assert await store.sweep(overdue_us=-1_000_000, limit=10) == 1
        assert await store.sweep(overdue_us=-1_000_000, limit=10) == 0
        states = [state.status if state else None for state in await store.look_up([job.key for job in jobs])]
        assert states == [JobStatus.HELD_ON_MASTER, JobStatus.HELD_ON_MASTER, JobStatus.PROCESSING]
