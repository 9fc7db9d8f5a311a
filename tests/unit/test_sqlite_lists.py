"""Lists and counts of people on SQLite: what other stores do not share. The rest: tests/conformance/test_queries.py."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy.dialects import mssql, mysql, postgresql, sqlite

from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Envelope, NewJob, encode_envelope
from jobmaster.model.states import JobStatus
from jobmaster.ports.query import JobQuery
from jobmaster.rules.paging import Place
from jobmaster.stores.sql import queries
from tests.unit.sqlite_place import in_loop, new_job, opened, owned_bucket

pytestmark = pytest.mark.backend("sqlite")

EVERYTHING = JobQuery(
    statuses=(JobStatus.FAILED, JobStatus.SAVE_PENDING),
    task="t",
    lane="",
    priority=3,
    created_from_us=1,
    created_to_us=2,
    reason="",
    text="a_%'\\x",
)


@in_loop
async def test_a_list_looks_at_the_newest_messages_and_says_how_many_it_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "NEWEST_MESSAGES", 5)
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        jobs = [new_job() for _ in range(12)]
        await store.push(bucket.id, jobs)
        page = await store.list_jobs(JobQuery(), limit=50)
        assert {job.key for job in page.jobs} == {job.key for job in jobs[7:]}
        assert page.unlisted == 7
        assert await store.count_jobs(JobQuery()) == {JobStatus.SAVE_PENDING: 12}


@in_loop
async def test_a_long_list_holds_no_owners_read_up(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        await store.list_jobs(JobQuery())
        assert store._people is not None
        with store._people.gate:
            listing = asyncio.ensure_future(store.list_jobs(JobQuery()))
            await store.push(bucket.id, [new_job()])
            assert len((await store.read(bucket.fence, None, limit=9, window_us=0)).messages) == 1
            assert not listing.done()
        await listing


@pytest.mark.parametrize("text", ["100%", "_", "o'b", "a\\b", "--", "%' OR 1=1"])
@in_loop
async def test_what_people_search_for_is_data(tmp_path: Path, text: str) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        for task in ("shop.plain", f"shop.{text}!"):
            envelope = Envelope(task, b"", 1, 1)
            await store.push(bucket.id, [NewJob(new_job_key(), envelope, encode_envelope(envelope))])
            await store.hold([NewJob(new_job_key(), envelope, encode_envelope(envelope))])
        found = await store.list_jobs(JobQuery(text=text))
        assert [job.task for job in found.jobs] == [f"shop.{text}!"] * 2


@pytest.mark.parametrize("dialect", [postgresql, mysql, mssql, sqlite], ids=["postgresql", "mysql", "mssql", "sqlite"])
def test_every_list_is_written_for_every_dialect(dialect: object) -> None:
    place = Place(5, b"\0" * 16)
    for statement in (
        queries.messages_page(EVERYTHING, limit=5, place=None),
        queries.job_counts(EVERYTHING),
        queries.message_count(EVERYTHING),
        queries.depth_sum(EVERYTHING),
        queries.jobs_page(EVERYTHING, limit=5, place=place),
    ):
        text = str(statement.compile(dialect=dialect.dialect()))  # type: ignore[attr-defined]
        assert "a_%" not in text
        assert text.startswith("SELECT")
