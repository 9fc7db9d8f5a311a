"""Hostile data: kept exactly, or refused with the same typed error by every store, and then nothing is stored."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import msgspec
import pytest

from jobmaster.errors import SerializationError
from jobmaster.model.bucket import NewBucket
from jobmaster.model.definition import ClusterRecord, Definition
from jobmaster.model.ids import JobKey
from jobmaster.model.job import Blame, ErrorInfo
from jobmaster.model.states import JobStatus, WorkerMode
from jobmaster.model.worker import Registration, Renewal
from jobmaster.ports.query import JobQuery
from tests.conformance.adapters import AGENT
from tests.conformance.cluster import Cluster, outcome_of, start_of

pytestmark = pytest.mark.fault("G5")

NUL, SURROGATE = "a\0b", "a\ud800b"
ODD = ["\u202e", "\ufeff", "Ünïcödé", "🦄" * 20, "\n\r\t"]
STRANGE = ["", " ", "'; DROP TABLE jm_job; --", '"', "%_\\", "null", "{}", *ODD]
UNKEEPABLE = [NUL, SURROGATE]


def _deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


METADATA: dict[str, Any] = {
    "integers": [0, -1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1],
    "floats": [0.1, -0.0, 1e308, 5e-324, math.inf, -math.inf],
    "texts": [*STRANGE, NUL],
    "bytes": [b"", b"\x00\xff", bytes(range(256))],
    "deep": _deep(100),
    "": {"": ""},
    "🦄": None,
}


@pytest.mark.parametrize("text", STRANGE)
async def test_strange_names_make_the_whole_way_unchanged(cluster: Cluster, text: str) -> None:
    worker = await cluster.worker(f"w{text}", lanes=(text,))
    bucket = await cluster.bucket(worker, lane=text)
    fields = {"task": text, "lane": text, "custom_id": text, "reply_to": text}
    message = await cluster.message(bucket, **fields)
    await cluster.store.settle(bucket.fence, [outcome_of(message, JobStatus.FAILED, reason=text[:20])])
    job = await cluster.claimed(bucket, task=text)
    assert job.bucket == bucket.id
    row = await cluster.row(message.key)
    assert (row.task, row.lane, row.custom_id, row.reason) == (text, text, text, text[:20])
    assert row.envelope.reply_to == text
    found = await cluster.store.list_jobs(JobQuery(task=text, lane=text))
    assert {one.key for one in found.jobs} == {message.key, job.key}
    await cluster.store.save_definitions([Definition(text, text, signature=text, source=text)])
    assert await cluster.store.definitions([text]) == [Definition(text, text, signature=text, source=text)]


async def test_metadata_of_every_kind_makes_the_whole_way_unchanged(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    held = cluster.job(metadata=METADATA)
    await cluster.store.hold([held])
    pushed = await cluster.message(bucket, metadata=METADATA)
    await cluster.store.settle(bucket.fence, [outcome_of(pushed)])
    (claimed,) = (await cluster.claim(bucket)).jobs
    assert (claimed.payload, pushed.payload) == (held.payload, pushed.payload)
    for key in (held.key, pushed.key):
        assert (await cluster.row(key)).envelope.metadata == METADATA


async def test_nan_stays_nan(cluster: Cluster) -> None:
    job = cluster.job(metadata={"nan": math.nan}, timeout=math.nan)
    await cluster.store.hold([job])
    (row,) = [await cluster.row(job.key)]
    assert math.isnan(row.envelope.metadata["nan"])
    assert math.isnan(row.envelope.timeout)


@pytest.mark.parametrize("size", [0, 1, 1_048_576], ids=["empty", "one byte", "1 MiB"])
async def test_calls_and_results_of_any_size_are_kept(cluster: Cluster, size: int) -> None:
    bucket = await cluster.owned()
    blob = bytes(range(256)) * (size // 256) + b"\x00" * (size % 256)
    message = await cluster.message(bucket, call=blob)
    held = cluster.job(call=blob)
    await cluster.store.hold([held])
    await cluster.store.settle(bucket.fence, [outcome_of(message, result=blob, checkpoint=blob)])
    row = await cluster.row(message.key)
    assert (row.envelope.call, row.result) == (blob, blob)
    (claimed,) = (await cluster.claim(bucket)).jobs
    assert claimed.payload == held.payload


@pytest.mark.parametrize("field", ["task", "lane", "custom_id", "reply_to"])
@pytest.mark.parametrize("text", UNKEEPABLE, ids=["NUL", "surrogate"])
async def test_a_job_with_a_text_that_not_every_store_keeps_is_refused_whole(
    cluster: Cluster, field: str, text: str
) -> None:
    bucket = await cluster.owned()
    good, bad = cluster.job(), cluster.job()
    bad = msgspec.structs.replace(bad, envelope=msgspec.structs.replace(bad.envelope, **{field: text}))
    with pytest.raises(SerializationError):
        await cluster.store.push(bucket.id, [good, bad])
    with pytest.raises(SerializationError):
        await cluster.store.hold([good, bad])
    assert await cluster.store.look_up([good.key, bad.key]) == [None, None]


@pytest.mark.parametrize(
    "times",
    [
        {"due_us": 2**63}, {"due_us": -1}, {"due_us": 253_402_300_800_000_000}, {"due_in": 10**13},
        {"created_us": 2**63}, {"scheduled_us": -1}, {"expires_us": 2**70}, {"priority": 0}, {"priority": 6},
        {"priority": 2**63},
    ],
    ids=str,
)  # fmt: skip
async def test_a_number_that_not_every_store_keeps_is_refused(cluster: Cluster, times: dict[str, int]) -> None:
    bucket = await cluster.owned()
    envelope = {name: value for name, value in times.items() if not name.startswith("due")}
    job = cluster.job(due_us=times.get("due_us"))
    job = msgspec.structs.replace(
        job,
        delay_us=times.get("due_in", 0) * 1_000_000,
        envelope=msgspec.structs.replace(job.envelope, **envelope),
    )
    with pytest.raises(SerializationError):
        await cluster.store.hold([job])
    with pytest.raises(SerializationError):
        await cluster.store.push(bucket.id, [job])
    assert await cluster.store.look_up([job.key]) == [None]


@pytest.mark.parametrize("key", [b"", b"short", b"x" * 17, "text-of-16-chars"], ids=repr)
async def test_a_key_that_is_no_key_is_refused(cluster: Cluster, key: Any) -> None:
    bucket = await cluster.owned()
    job = msgspec.structs.replace(cluster.job(), key=JobKey(key))
    with pytest.raises(SerializationError):
        await cluster.store.hold([job])
    with pytest.raises(SerializationError):
        await cluster.store.push(bucket.id, [job])
    for verb in (cluster.store.cancel, cluster.store.requeue):
        with pytest.raises(SerializationError):
            await verb(key)


@pytest.mark.parametrize("text", UNKEEPABLE, ids=["NUL", "surrogate"])
async def test_every_name_is_checked_before_anything_is_written(cluster: Cluster, text: str) -> None:
    worker = await cluster.worker()
    refusals = [
        (cluster.store.register, Registration(text, 1, AGENT, ("",), WorkerMode.FULL)),
        (cluster.store.register, Registration("x", 1, text, ("",), WorkerMode.FULL)),
        (cluster.store.register, Registration("x", 1, AGENT, ("", text), WorkerMode.FULL)),
        (cluster.store.register, Registration("x", 1, AGENT, ("",), WorkerMode.FULL, host=text)),
        (cluster.store.register, Registration("x", 2**63, AGENT, ("",), WorkerMode.FULL)),
        (cluster.store.create_buckets, worker, [cluster.new_bucket(), NewBucket(text, AGENT, "", 3)]),
        (cluster.store.create_buckets, worker, [NewBucket("t", AGENT, text, 3)]),
        (cluster.store.offer_bucket, NewBucket("t", text, "", 3)),
        (cluster.store.offer_bucket, NewBucket("t", AGENT, "", 9)),
        (cluster.store.save_definitions, [Definition("good"), Definition(text)]),
        (cluster.store.save_definitions, [Definition("good"), Definition("x", source=text)]),
        (cluster.store.save_cluster, ClusterRecord(text, 1, b"")),
        (cluster.store.save_cluster, ClusterRecord("x", 2**63, b"")),
        (cluster.store.send_command, [worker], text, b""),
        (partial(cluster.store.hold, reason=text), [cluster.job()]),
    ]
    for verb, *arguments in refusals:
        with pytest.raises(SerializationError):
            await verb(*arguments)
    assert [one.name for one in await cluster.store.list_workers()] == ["w"]
    assert (await cluster.store.list_buckets(), await cluster.store.definitions()) == ([], [])
    assert await cluster.store.load_cluster() is None
    assert await cluster.store.take_commands(worker) == []
    assert await cluster.store.count_jobs(JobQuery()) == {}


async def test_the_words_of_an_outcome_never_stop_a_finish(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    one, two = await cluster.pushed(bucket, 2)
    error = ErrorInfo(SURROGATE, NUL + "🦄", SURROGATE + NUL)
    outcomes = [
        outcome_of(one, JobStatus.FAILED, error=error, reason=NUL),
        outcome_of(two, JobStatus.HELD_ON_MASTER, error=error, reason=SURROGATE),
    ]
    assert [settled.done for settled in await cluster.store.settle(bucket.fence, outcomes)] == [True, True]
    row = await cluster.row(one.key)
    assert row.reason == "a\ufffdb"
    assert row.error == ErrorInfo("a\ufffdb", "a\ufffdb🦄", "a\ufffdba\ufffdb")
    assert (await cluster.row(two.key)).reason == "a\ufffdb"
    (attempt,) = await cluster.store.job_attempts(one.key)
    assert (attempt.error, attempt.reason) == (row.error, "a\ufffdb")


async def test_the_words_of_evidence_never_stop_an_end(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.running(bucket)
    await cluster.store.end_worker(bucket.owner or 0, blame=[Blame(message.key, SURROGATE + NUL)])
    adopted = await cluster.adopted(bucket)
    await cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us + 1, limit=10)
    (attempt,) = await cluster.store.job_attempts(message.key)
    assert attempt.error.message.endswith("a\ufffdba\ufffdb")


async def test_a_message_that_cannot_be_read_stops_nobody(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    good = cluster.job()
    bad = msgspec.structs.replace(cluster.job(), payload=b"\xc1not an envelope")
    await cluster.store.push(bucket.id, [bad, good])
    (first, _) = await cluster.messages(bucket)
    assert first.payload == bad.payload
    await cluster.store.list_jobs(JobQuery())
    await cluster.store.get_job(bad.key)
    draining = await cluster.draining(bucket)
    while not await cluster.store.drain(draining.fence, limit=10):
        pass
    row = await cluster.row(bad.key)
    assert (row.status, row.reason) == (JobStatus.FAILED, "unreadable")
    assert await cluster.status(good.key) is JobStatus.HELD_ON_MASTER


async def test_a_nonce_may_be_any_integer_of_64_bits(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    for nonce in (-(2**63), 2**63 - 1, 0):
        message = await cluster.message(bucket)
        for _ in range(2):
            (verdict,) = await cluster.store.start(bucket.fence, [start_of(message, nonce=nonce)])
            assert (verdict.yes, verdict.attempt) == (True, 1)


async def test_a_renewal_may_hold_ten_thousand_jobs(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    held = [*((cluster.job().key, number) for number in range(10_000)), (job.key, job.gen)]
    cluster.later(1)
    (grant,) = await cluster.store.renew([Renewal(bucket.owner or 0, 1, held=held, cut_us=cluster.now_us)])
    assert len(grant.buckets) == 1
    assert await cluster.status(job.key) is JobStatus.QUEUED


async def test_a_batch_may_be_a_thousand_jobs(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    messages = await cluster.pushed(bucket, 1_000)
    settled = await cluster.store.settle(bucket.fence, [outcome_of(message) for message in messages])
    assert len(settled) == 1_000
    assert all(one.done for one in settled)
    states = await cluster.store.look_up([message.key for message in messages])
    assert {state.status for state in states} == {JobStatus.SUCCEEDED}
