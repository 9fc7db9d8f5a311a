"""The producer's side: grouping, threads, loops, ids, deadlines; on memory with arranged faults."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from jobmaster import (
    CancelOutcome,
    ClusterArchived,
    ConfigurationError,
    JobCancelled,
    JobMaster,
    JobStatus,
    MessageTooLarge,
    OutcomeUnknown,
    Priority,
    ResultTimeout,
    SchemaError,
    StoreUnavailable,
)
from jobmaster.client import Client
from jobmaster.gateway import Connections
from tests.unit.faulty_store import CALL_LOST, DOWN, REPLY_LOST, SILENT, FaultyStore, connections

pytestmark = pytest.mark.backend("memory")


class App(JobMaster):
    """An app on a faulty memory store, which lives on the loop of whoever asks first."""

    def __init__(self, **settings) -> None:
        super().__init__("unit", accept_timeout=settings.pop("accept_timeout", 10.0), **settings)
        self.store = FaultyStore()

        async def opener() -> Connections:
            return connections(self.store)

        self._client = Client(lambda: self.settings, codec=self.codec, opener=opener)


def app_with(**settings):
    app = App(**settings)

    @app.task
    def hello(name: str = "J") -> str:
        return name

    return app, hello


@pytest.fixture
def shop() -> Iterator[tuple]:
    app, hello = app_with()
    yield app, hello
    app.close()


@pytest.fixture
def hurried() -> Iterator[tuple]:
    """A shop whose callers wait for a second."""
    app, hello = app_with(accept_timeout=1.0)
    yield app, hello
    app.close()


def jobs_in(calls) -> list:
    return [job for _, jobs in calls for job in jobs]


def test_delay_stores_one_message_and_the_result_knows_its_id(shop) -> None:
    app, hello = shop
    result = hello.delay(name="John")

    (job,) = jobs_in(app.store.calls_of("push"))
    assert job.envelope.task == "test_client.hello" or job.envelope.task.endswith("test_client.hello")
    assert app.codec.decode_call(job.envelope.call) == ((), {"name": "John"})
    assert result.status is JobStatus.SAVE_PENDING
    assert app.jobs.get(result.id).kwargs == {"name": "John"}


def test_calls_of_many_threads_travel_together(shop) -> None:
    app, hello = shop
    hello.delay()  # opens
    barrier = threading.Barrier(20)
    failures = []
    original = app.store.push

    async def slow(bucket, jobs) -> None:
        await asyncio.sleep(0.01)  # else a busy machine has one thread call after the other
        await original(bucket, jobs)

    app.store.push = slow

    def produce() -> None:
        try:
            barrier.wait()
            for _ in range(10):
                hello.delay()
        except Exception as error:  # noqa: BLE001 - looked at below
            failures.append(error)

    threads = [threading.Thread(target=produce) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    pushes = app.store.calls_of("push")
    keys = [job.key for job in jobs_in(pushes)]
    assert len(keys) == len(set(keys)) == 201
    assert len(pushes) < 150, "concurrent calls are group-committed"


def test_enqueue_many_is_one_call_per_batch_and_keeps_the_order(shop) -> None:
    app, hello = shop
    results = app.enqueue_many(
        [hello.job(name=str(number)) for number in range(10)]
        + [hello.options(priority=Priority.HIGH).job(name="high")]
        + [hello.job(name="last")]
    )

    assert [len(jobs) for _, jobs in app.store.calls_of("push")] == [11, 1]
    assert app.jobs.get(results[10].id).kwargs == {"name": "high"}
    assert app.jobs.get(results[11].id).kwargs == {"name": "last"}
    assert app.enqueue_many([]) == []


@pytest.mark.alone
def test_a_call_with_many_batches_has_the_accept_timeout_for_each_wave_of_them(hurried) -> None:
    app, hello = hurried
    original = app.store.push

    async def slow(bucket, jobs) -> None:
        await asyncio.sleep(0.22)
        await original(bucket, jobs)

    app.store.push = slow
    started = time.monotonic()
    results = app.enqueue_many([hello.job() for _ in range(20_000)])

    assert time.monotonic() - started > 1.0, "longer than one accept_timeout, and yet no error"
    assert app.jobs.count() == {JobStatus.SAVE_PENDING: 20_000}
    assert len({result.id for result in results}) == 20_000


def test_one_job_that_a_store_refuses_does_not_fail_those_that_travel_with_it() -> None:
    app, hello = app_with()
    original = app.store.push

    async def picky(bucket, jobs) -> None:
        if any(job.envelope.metadata.get("bad") for job in jobs):
            raise ValueError("this store cannot take that")
        await original(bucket, jobs)

    app.store.push = picky
    good, bad = hello.job(), hello.options(metadata={"bad": True}).job()

    async def scenario() -> list:
        each = (app.aenqueue_many([job]) for job in (good, bad, good))
        return await asyncio.gather(*each, return_exceptions=True)

    first, second, third = asyncio.run(scenario())
    assert len(first) == len(third) == 1
    assert isinstance(second, ValueError)


@pytest.mark.parametrize(
    ("options", "verb"),
    [
        ({}, "push"),
        ({"delay": 599}, "push"),
        ({"delay": 601}, "hold"),
        ({"durability": "master"}, "hold"),
        ({"countdown": 3600}, "hold"),
    ],
)
def test_far_jobs_and_jobs_for_the_master_are_held(shop, options, verb) -> None:
    app, hello = shop
    hello.options(**options).delay()

    assert [name for name, _ in app.store.calls if name in {"push", "hold"}] == [verb]


def test_a_delay_is_added_to_the_stores_clock_not_to_ours(shop) -> None:
    app, hello = shop
    hello.options(delay=90).delay()

    (job,) = jobs_in(app.store.calls_of("push"))
    assert (job.due_us, job.delay_us) == (None, 90_000_000)


def test_an_id_that_the_caller_chose_is_marked_and_names_one_job(shop) -> None:
    app, hello = shop
    first = hello.options(job_id="order-7").delay()
    second = hello.options(job_id="order-7").delay()

    assert first == second
    assert first.id == "order-7"
    assert [job.verify for job in jobs_in(app.store.calls_of("push"))] == [True, True]
    assert app.jobs.count() == {JobStatus.SAVE_PENDING: 1}
    assert app.result("order-7").status is JobStatus.SAVE_PENDING


@pytest.mark.parametrize("fault", [REPLY_LOST, CALL_LOST])
def test_a_lost_reply_is_repeated_unseen_and_the_job_is_there_once(shop, fault) -> None:
    app, hello = shop
    app.store.plan["push"] = [fault]
    hello.delay()

    assert app.jobs.count() == {JobStatus.SAVE_PENDING: 1}


def test_an_unknown_outcome_names_the_id_to_repeat_with(hurried) -> None:
    app, hello = hurried
    app.store.plan["push"] = [SILENT] * 9
    with pytest.raises(OutcomeUnknown) as told:
        hello.delay()

    app.store.plan["push"] = []
    assert told.value.job_id
    assert told.value.job_id in str(told.value)
    assert hello.options(job_id=told.value.job_id).delay().id == told.value.job_id
    assert app.jobs.count() == {JobStatus.SAVE_PENDING: 1}


@pytest.mark.alone
def test_down_stores_are_told_within_the_accept_timeout_and_nothing_is_stored(hurried) -> None:
    app, hello = hurried
    for verb in ("push", "hold", "open_buckets"):
        app.store.plan[verb] = [DOWN] * 1000
    started = time.monotonic()
    with pytest.raises(StoreUnavailable) as told:
        hello.delay()

    assert time.monotonic() - started < 10
    assert not isinstance(told.value, OutcomeUnknown)
    app.store.plan.clear()
    assert app.jobs.count() == {}


def test_a_message_above_the_limit_is_refused_before_anything_is_written(shop) -> None:
    app, hello = shop
    with pytest.raises(MessageTooLarge, match=r"131,\d{3} bytes.*max_message_bytes is 131,072"):
        hello.delay("x" * 131_072)

    assert app.store.calls_of("push") == []


def test_an_archived_cluster_takes_no_work() -> None:
    app, hello = app_with(mode="archived")
    with pytest.raises(ClusterArchived, match="archived"):
        hello.delay()
    app.close()


def test_a_passive_cluster_takes_work_on_the_master() -> None:
    app, hello = app_with(mode="passive")
    hello.delay()

    assert app.store.calls_of("push") == []
    assert len(app.store.calls_of("hold")) == 1
    app.close()


def test_a_priority_that_is_switched_off_is_refused_at_the_call() -> None:
    app, hello = app_with(buckets={Priority.LOW: 0})
    with pytest.raises(ConfigurationError, match="low is switched off"):
        hello.options(priority="low").delay()
    app.close()


def test_delay_works_on_a_running_loop_and_get_refuses_to_stop_it(shop) -> None:
    _, hello = shop

    async def scenario() -> None:
        result = hello.delay()
        with pytest.raises(ConfigurationError, match=r"running event loop.*await result\.aget"):
            result.get(timeout=1)

    asyncio.run(scenario())


def test_async_calls_that_come_together_are_one_call_to_the_store() -> None:
    app, hello = app_with()

    async def scenario() -> None:
        await hello.adelay()
        await asyncio.gather(*(hello.adelay() for _ in range(50)))
        await app.aclose()

    asyncio.run(scenario())
    assert sum(len(jobs) for _, jobs in app.store.calls_of("push")) == 51
    assert len(app.store.calls_of("push")) <= 6


def test_waiters_share_one_question_and_a_timeout_leaves_the_job_alone(shop) -> None:
    app, hello = shop
    results = app.enqueue_many([hello.job() for _ in range(40)])
    app.store.calls.clear()
    outcomes = []
    together = threading.Barrier(len(results))

    def wait(result) -> None:
        together.wait()
        try:
            result.get(timeout=0.6)
        except Exception as error:  # noqa: BLE001 - looked at below
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=wait, args=(result,)) for result in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes == ["ResultTimeout"] * 40
    assert len(app.store.calls_of("look_up")) < 120, "one shared poll, not one per waiter, which would be 300"


def test_a_wait_for_an_id_that_may_be_nobodys_says_so(shop) -> None:
    app, hello = shop
    with pytest.raises(ResultTimeout, match="It goes on; ask again"):
        hello.delay().get(timeout=0.01)
    with pytest.raises(ResultTimeout, match="unless nobody knows it: then its status is None; ask again"):
        app.result("nobodys").get(timeout=0.01)


def test_a_wait_without_time_finds_a_job_that_has_ended(shop) -> None:
    _, hello = shop
    result = hello.options(delay=3600).delay()
    result.cancel()
    with pytest.raises(JobCancelled):
        result.get(timeout=0)


def test_a_fault_while_waiting_reaches_those_who_wait(shop) -> None:
    app, hello = shop
    result = hello.delay()

    async def broken(keys) -> None:
        raise SchemaError("the schema has changed")

    app.store.look_up = broken
    with pytest.raises(SchemaError):
        result.get(timeout=5)
    with pytest.raises(SchemaError):
        result.get()


def test_cancel_of_a_waiting_job(shop) -> None:
    _, hello = shop
    held = hello.options(delay=3600).delay()

    assert held.cancel() is CancelOutcome.CANCELLED
    assert held.status is JobStatus.CANCELLED
    assert held.cancel() is CancelOutcome.CANCELLED, "asking again gives the same certain answer"
