"""Cut transactions are counted by verb: each verb of a store looks like itself, and nothing else looks like it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from jobmaster.model.bucket import NewBucket
from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Envelope, Message, NewJob, Outcome, Start, encode_envelope
from jobmaster.model.states import JobStatus, WorkerMode
from jobmaster.model.worker import Registration, Renewal
from jobmaster.ports.master import ClaimRequest, MasterRules
from jobmaster.stores.sql.postgresql.store import PostgresStore
from tests.faults.postgres_verbs import VERBS, verb_of
from tests.servers.fault_proxy import AFTER, End, FaultProxy

ENVELOPE = Envelope("task", b"", 1, 1)


def job() -> NewJob:
    return NewJob(new_job_key(), ENVELOPE, encode_envelope(ENVELOPE))


def start(message: Message) -> Start:
    return Start(
        message.key, 0, 7, ENVELOPE, message.payload, message.due_us, seq=message.seq, started_us=5, take_over=True
    )


def outcome(message: Message) -> Outcome:
    return Outcome(
        message.key, 0, ENVELOPE, message.payload, message.due_us, JobStatus.SUCCEEDED, 1, seq=message.seq,
        started_us=5, finished_us=9,
    )  # fmt: skip


async def every_verb(proxy: FaultProxy, dsn: str) -> dict[str, set[str]]:
    """What the transactions of each verb are taken for."""
    seen: list[End] = []
    found: dict[str, set[str]] = {}

    def note(end: End) -> bool:
        seen.append(end)
        return False

    async def ask(verb: str, answer: Awaitable[Any]) -> Any:
        seen.clear()
        result = await answer
        found[verb] = {verb_of(end) for end in seen}
        return result

    store = await PostgresStore.open(proxy.dsn(dsn), rules=MasterRules())
    proxy.cut_when(AFTER, note)
    try:
        registration = Registration("w", 1, "here", ("",), WorkerMode.FULL)
        worker = (await ask("register", store.register(registration))).worker
        new = [NewBucket("t", "here", "", 3)]
        (bucket,) = await ask("create_buckets", store.create_buckets(worker, new))
        await ask("fence", store.fence(bucket.fence))
        await ask("push", store.push(bucket.id, [job() for _ in range(3)]))
        read = store.read(bucket.fence, None, limit=9, window_us=0)
        first, second, third = (await ask("read", read)).messages
        await ask("hold", store.hold([job()]))
        await ask("claim", store.claim([ClaimRequest(bucket.fence, "", 3, 9)], window_us=0))
        await ask("take_over", store.take_over(bucket.fence, [start(first)]))
        await ask("settle", store.settle(bucket.fence, [outcome(second)]))
        await ask("cancel", store.cancel(third.key))
        await ask("renew", store.renew([Renewal(worker, 1, adopt=2, depths={}, cut_us=0, cancels_after=0)]))
        await ask("recover_before", store.recover_before(bucket.fence, adopted_us=bucket.adopted_us, limit=50))
        await ask("give_up", store.give_up(bucket.fence))
        await ask("end_worker", store.end_worker(worker, blame=[]))
    finally:
        await store.close_store()
    return found


@pytest.mark.backend("postgresql")
def test_each_verb_looks_like_itself(postgres_database: str) -> None:
    async def run() -> dict[str, set[str]]:
        await (await PostgresStore.open(postgres_database, rules=MasterRules())).close_store()
        with FaultProxy(postgres_database) as proxy:
            return await every_verb(proxy, postgres_database)

    found = asyncio.run(run())
    assert len(found) > 10
    for verb, taken_for in found.items():
        assert taken_for <= {verb if verb in VERBS else "", ""}, verb
    assert {verb for verb, taken_for in found.items() if verb in taken_for} == set(VERBS)
