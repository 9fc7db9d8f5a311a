"""Whichever way a statement takes, the same rows come of it on every database: batches of all kinds at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from jobmaster.model.ids import JobKey
from jobmaster.model.job import Blame, ErrorInfo, Message, Outcome, Start
from jobmaster.model.states import JobStatus
from tests.conformance.adapters import ADAPTERS
from tests.conformance.cluster import NOON, SECOND, Cluster, outcome_of, start_of
from tests.conformance.looking import TABLES, Looking

KEYS = [JobKey(number.to_bytes(16, "big")) for number in range(1, 40)]


async def _all_kinds(cluster: Looking) -> None:
    """Every kind of outcome, start and letting go, on rows that are there and on messages alone."""
    bucket, other = await cluster.owned(), await cluster.owned("w2")
    store, fence = cluster.store, bucket.fence
    messages = await _pushed(cluster, bucket)
    plain, kept, custom, expiring, early, running, cancelled, killed, claimed, late, alone, *rest = messages
    await store.push(other.id, [cluster.job(key=late.key)])
    await store.take_over(fence, [start_of(early, status=JobStatus.QUEUED, attempt=1), start_of(running, nonce=2**63)])
    await store.cancel(cancelled.key)
    await store.end_worker(await cluster.worker("dead"), blame=[Blame(killed.key, "signal 9")])
    await store.take_over(fence, [start_of(message, take_over=n > 1) for n, message in enumerate((cancelled, killed))])
    await store.take_over(other.fence, [start_of(late)])
    cluster.later(1)
    outcomes = [
        outcome_of(plain, result=b"1"),
        outcome_of(kept, result=b"2"),
        outcome_of(custom, JobStatus.FAILED, error=ErrorInfo("E", "a\0b", "line"), reason="\ud800", failures=3),
        outcome_of(expiring, JobStatus.CANCELLED, attempt=2, result=None, reason="asked"),
        outcome_of(early, attempt=4, checkpoint=b"c", finished_us=0),
        outcome_of(running, JobStatus.FAILED, error=ErrorInfo("E"), started_us=NOON + 7),
        outcome_of(killed, JobStatus.HELD_ON_MASTER, delay_us=SECOND, error=ErrorInfo("R"), checkpoint=b"d"),
        outcome_of(late),
        outcome_of(alone, JobStatus.HELD_ON_MASTER, delay_us=5, failures=1),
        outcome_of(claimed, JobStatus.FAILED, started_us=None),
    ]
    await _twice(store, fence, outcomes)
    await store.set_free(fence, [outcome_of(message, reason="full", failures=2) for message in rest[:2]], ended=False)
    await store.set_free(fence, [outcome_of(message, checkpoint=b"e") for message in rest[2:4]], ended=True)
    await _well_and_in_one_batch(cluster, rest[4:8])
    assert await cluster.messages(bucket) == rest[8:]


async def _pushed(cluster: Cluster, bucket: Any) -> list[Message]:
    special: dict[int, dict[str, Any]] = {
        1: {"keep_result": 1.5},
        2: {"custom_id": "order 7", "lane": "mail", "priority": 5, "trigger": 2},
        3: {"expires_us": NOON + 9 * SECOND},
        6: {"at_most_once": True},
        9: {"reply_to": "client"},
    }
    jobs = [cluster.job(key=key, **special.get(number, {})) for number, key in enumerate(KEYS[:20])]
    await cluster.store.push(bucket.id, jobs)
    return await cluster.messages(bucket)


async def _twice(store: Any, fence: Any, outcomes: Sequence[Outcome]) -> None:
    """The first answers, and the same of those that were done when all is repeated."""
    first = await store.settle(fence, outcomes)
    assert [one.done for one in first] == [True] * 7 + [False, True, True]
    again = await store.settle(fence, outcomes)
    retries = [outcome.status is JobStatus.HELD_ON_MASTER for outcome in outcomes]
    assert [one.done for one in again] == [one.done and not retry for one, retry in zip(first, retries, strict=True)]


async def _well_and_in_one_batch(cluster: Looking, messages: Sequence[Message]) -> None:
    """All at the first attempt, of one kind: the shortest way."""
    starts: list[Start] = [start_of(message, nonce=number) for number, message in enumerate(messages[:2])]
    fence = (await cluster.bucket_by_id(messages[0].bucket)).fence
    assert all(verdict.yes for verdict in await cluster.store.start(fence, starts))
    assert all(one.done for one in await cluster.store.finish(fence, [outcome_of(one) for one in messages]))
    await cluster.store.remove(fence, [message.seq for message in messages])


@pytest.mark.parametrize("split", ["", "-split"], ids=["standalone", "split"])
def test_a_server_stores_what_sqlite_stores(split: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("postgres_databases")
    stored = []
    for name in ("sqlite", "postgresql"):
        (tmp_path / name).mkdir()
        cluster = Looking(ADAPTERS[name + split], tmp_path / name)

        async def case(cluster: Any) -> None:
            await _all_kinds(cluster)
            stored.append(await cluster.stored())

        asyncio.run(cluster.carry_out(case))
    expected, found = stored
    assert len(expected["jm_job"]) == 19
    for table in TABLES:
        assert found[table] == expected[table], table
