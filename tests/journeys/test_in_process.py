"""What users do with an app that runs its workers in its own process, on an SQLite file."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest

from jobmaster import (
    CancelOutcome,
    ConfigurationError,
    JobContext,
    JobFailed,
    JobMaster,
    JobQuery,
    JobStatus,
    MessageData,
    Metadata,
    NotRegistered,
    Priority,
    current_job,
)
from tests.journeys.conftest import make_app

pytestmark = pytest.mark.backend("sqlite")


@dataclass(frozen=True)
class Order:
    number: int
    placed: datetime


class Clerk:
    """A service that handlers ask for."""

    def greet(self, name: str) -> str:
        return f"Dear {name}"


def test_the_first_three_lines(jm: JobMaster) -> None:
    @jm.task
    def hello(name: str) -> str:
        return f"Hello {name}"

    result = hello.delay(name="John")
    assert result.status is JobStatus.SAVE_PENDING
    with jm:
        assert result.get(timeout=30) == "Hello John"
    assert result.status is JobStatus.SUCCEEDED
    assert (result.ready(), result.successful(), result.error) == (True, True, None)
    assert hello("John") == "Hello John"


def test_async_tasks_and_async_calls(jm: JobMaster) -> None:
    @jm.task
    async def double(number: int) -> int:
        await asyncio.sleep(0.01)
        return number * 2

    async def scenario() -> None:
        async with jm:
            result = await double.adelay(21)
            assert await result.aget(timeout=30) == 42
            assert await result.astatus() is JobStatus.SUCCEEDED
            many = await jm.aenqueue_many([double.job(number) for number in range(100)])
            assert [await one.aget(timeout=30) for one in many] == [number * 2 for number in range(100)]

    asyncio.run(scenario())


def test_what_asks_a_server_has_a_twin_for_event_loops(jm: JobMaster) -> None:
    @jm.task
    def hello() -> str:
        return "hi"

    async def scenario() -> None:
        async with jm:
            result = await hello.adelay()
            assert await result.aget(timeout=30) == "hi"
            assert (await result.aready(), await result.asuccessful(), await result.aerror()) == (True, True, None)
            assert await result.aattempts() == 1
            await ask_about(result.id)
            await schedule()
            await order()

    async def ask_about(job_id: str) -> None:
        job = await jm.jobs.aget(job_id)
        assert job is not None
        assert job.status is JobStatus.SUCCEEDED
        assert [one.id for one in (await jm.jobs.alist()).jobs] == [job_id]
        assert await jm.jobs.acount() == {JobStatus.SUCCEEDED: 1}
        assert await jm.jobs.aattempts(job_id) == ()
        assert await jm.buckets.alist() != ()

    async def schedule() -> None:
        now = datetime.now(UTC)
        sent = [
            await jm.asend(hello.name),
            await jm.scheduler.aonce_now(hello),
            await jm.scheduler.aonce_after(hello, 0.01),
            await jm.scheduler.aonce_at(hello, now),
        ]
        assert [await one.aget(timeout=30) for one in sent] == ["hi"] * 4
        later = await jm.scheduler.aonce_after(hello, timedelta(hours=1))
        assert await jm.scheduler.areschedule(later.id, now + timedelta(hours=2))
        assert await jm.scheduler.acancel(later.id) is CancelOutcome.CANCELLED
        assert await jm.jobs.aretry(later.id)
        assert await later.aget(timeout=30) == "hi"

    async def order() -> None:
        (worker,) = await jm.workers.alist()
        for replies in (
            await jm.workers.aping(worker.name),
            await jm.workers.apause(),
            await jm.workers.aresume(),
            await jm.workers.aset_concurrency(3),
            await jm.workers.arevoke("a job that nobody has"),
            await jm.workers.astop(),
        ):
            assert [(reply.worker, reply.ok) for reply in replies] == [(worker.name, True)]

    asyncio.run(scenario())


def test_lifespan_runs_workers_while_the_application_runs(jm: JobMaster) -> None:
    @jm.task
    def hello() -> str:
        return "hi"

    async def application() -> None:
        async with jm.lifespan(object()):
            assert await (await hello.adelay()).aget(timeout=30) == "hi"
        assert jm.workers.list()[0].status.name == "DEAD"

    asyncio.run(application())


def test_values_keep_their_types_on_the_way_there_and_back(jm: JobMaster) -> None:
    moment = datetime(2026, 11, 21, 12, tzinfo=UTC)

    @jm.task
    def place(order: Order, tags: set[str], wait: timedelta) -> Order:
        assert isinstance(order, Order)
        assert tags == {"a", "b"}
        return Order(order.number + 1, order.placed + wait)

    with jm:
        result = place.delay(Order(1, moment), tags={"a", "b"}, wait=timedelta(hours=1))
        assert result.get(timeout=30) == Order(2, moment + timedelta(hours=1))
        again = jm.result(result.id, place)
        assert again.get(timeout=30) == Order(2, moment + timedelta(hours=1))


def test_a_class_that_was_registered_travels_without_an_annotation(jm: JobMaster) -> None:
    class Money:
        def __init__(self, cents: int) -> None:
            self.cents = cents

    jm.register_type(Order, "order")
    jm.register_type(Money, "money", dump=lambda money: money.cents, load=Money)

    @jm.task
    def double(order, money):
        return [type(order).__name__, Money(2 * money.cents)]

    with jm:
        kind, doubled = double.delay(Order(1, datetime.now(UTC)), Money(7)).get(timeout=10)
    assert (kind, type(doubled), doubled.cents) == ("Order", Money, 14)


def test_a_bound_task_gets_its_context_and_a_detached_one_in_a_plain_call(jm: JobMaster) -> None:
    @jm.task(bind=True, metadata={"team": "images"}, max_retries=7, lane="bulk", priority="high")
    def resize(ctx: JobContext, path: str) -> list:
        assert ctx.is_detached or current_job() is ctx
        return [
            ctx.task,
            ctx.kwargs,
            ctx.attempt,
            ctx.max_retries,
            ctx.lane,
            int(ctx.priority),
            dict(ctx.metadata),
            ctx.id,
        ]

    with jm:
        result = resize.options(metadata={"tenant": "a"}).delay(path="a.png")
        expected = [resize.name, {"path": "a.png"}, 1, 7, "bulk", 4, {"team": "images", "tenant": "a"}, result.id]
        assert result.get(timeout=30) == expected
        assert jm.result(result.id).get() == expected
    assert resize(path="b.png")[-1] == ""
    with pytest.raises(ConfigurationError, match="outside of a job"):
        current_job()


def test_metadata_is_written_and_read_by_typed_setters_and_getters(jm: JobMaster) -> None:
    number, moment = uuid4(), datetime(2026, 11, 21, 12, tzinfo=UTC)
    seen: list[object] = []

    @jm.task(bind=True, metadata={"team": "a", "size": 3})
    def look(ctx: JobContext) -> None:
        data = ctx.metadata
        seen.extend([data["team"], data.get_int("size"), data.get_decimal("price"), data.get_datetime("at")])
        seen.extend([data.get_uuid("id"), data.get_bytes("raw"), data.get_bool("yes"), data.get_enum("rank", Priority)])
        seen.extend([data.try_get_str("nothing"), data.get_json("tags")])
        with pytest.raises(KeyError, match="nothing"):
            data.get_str("nothing")

    labels = (
        Metadata().set_decimal("price", Decimal("1.10")).set_datetime("at", moment).set_uuid("id", number)
        .set_bytes("raw", b"\x00\xff").set_bool("yes", True).set_enum("rank", Priority.HIGH).set_json("tags", ["x"])
    )  # fmt: skip
    with jm:
        result = look.options(metadata=labels).delay()
        result.get(timeout=30)
    assert seen == ["a", 3, Decimal("1.10"), moment, number, b"\x00\xff", True, Priority.HIGH, None, ["x"]]
    assert jm.jobs.get(result.id).metadata["raw"] == "AP8="


@pytest.mark.alone
def test_a_delayed_job_starts_when_it_is_due(jm: JobMaster) -> None:
    @jm.task
    def now() -> float:
        return time.time()

    def late() -> float:
        """How much later than they should two jobs have started."""
        before = time.time()
        after = now.options(delay=0.5).delay()
        at = now.options(at=datetime.now(UTC) + timedelta(seconds=0.7)).delay()
        seconds = after.get(timeout=30) - before - 0.5, at.get(timeout=30) - before - 0.7
        assert min(seconds) >= 0, "none before its time"
        return max(seconds)

    with jm:
        now.delay().get(timeout=30)
        # A machine that stood still for a moment does so only now and then.
        assert any(late() < 0.3 for _ in range(5))


def test_handlers_are_made_with_their_services(jm: JobMaster) -> None:
    jm.services.register_factory(Clerk, Clerk)

    @jm.handler("HelloJob", lane="mail", timeout=10)
    class HelloJobHandler:
        def __init__(self, clerk: Clerk, suffix: str = "!") -> None:
            self.clerk, self.suffix = clerk, suffix

        async def handle(self, job: JobContext) -> str:
            return self.clerk.greet(job.msg_data.try_get_str("Name") or "World") + self.suffix

    @jm.handler()
    class Plain:
        def handle(self, job: JobContext) -> int:
            return job.msg_data.get_int("Count")

    @jm.task
    def hello(name: str) -> str:
        return name

    with jm:
        data = MessageData().set_str("Name", "John")
        assert jm.scheduler.once_now(HelloJobHandler, data, priority=Priority.LOW).get(timeout=30) == "Dear John!"
        assert jm.scheduler.once_now("HelloJob").get(timeout=30) == "Dear World!"
        assert jm.send("HelloJob", Name="Jane").get(timeout=30) == "Dear Jane!"
        assert jm.scheduler.once_after(Plain, 0.05, {"Count": 3}).get(timeout=30) == 3
        assert jm.scheduler.once_after(hello, timedelta(milliseconds=50), {"name": "J"}).get(timeout=30) == "J"
        assert jm.scheduler.once_at(hello, datetime.now(UTC), {"name": "K"}).get(timeout=30) == "K"


def test_a_program_without_the_code_sends_by_name(jm: JobMaster, tmp_path: Path) -> None:
    @jm.task(name="mail.receipt", lane="mail", priority="high")
    def receipt(order_id: int) -> str:
        return f"receipt {order_id} {current_job().lane}"

    other = make_app(tmp_path)
    with jm:
        result = other.send("mail.receipt", order_id=7)
        assert result.get(timeout=30) == "receipt 7 mail"
        assert other.jobs.get(result.id).priority is Priority.HIGH
        with pytest.raises(NotRegistered, match=r"mail\.reciept.*Did you mean 'mail\.receipt'"):
            other.send("mail.reciept", order_id=7)
    other.close()


def test_a_job_that_waits_is_given_another_moment(jm: JobMaster) -> None:
    @jm.task
    def hello() -> str:
        return "hi"

    with jm:
        result = hello.options(delay=3600).delay()
        assert jm.scheduler.reschedule(result.id, datetime.now(UTC)) is True
        assert result.get(timeout=30) == "hi"
        assert jm.scheduler.reschedule(result.id, datetime.now(UTC)) is False


def test_get_inside_a_job_is_refused_with_advice(jm: JobMaster) -> None:
    @jm.task
    def inner() -> int:
        return 1

    @jm.task(max_retries=0)
    def outer() -> int:
        return inner.delay().get(timeout=30)

    with jm, pytest.raises(JobFailed, match="waits in a slot"):
        outer.delay().get(timeout=30)


def test_lists_counts_and_single_jobs(jm: JobMaster) -> None:
    @jm.task(lane="mail", name="mail.send")
    def send(number: int) -> int:
        return number

    @jm.task(max_retries=0)
    def fail() -> None:
        raise OSError("disk")

    with jm:
        results = jm.enqueue_many([send.job(number) for number in range(5)])
        for result in results:
            result.get(timeout=30)
        failed = fail.delay()
        with pytest.raises(JobFailed):
            failed.get(timeout=30)

        page = jm.jobs.list(JobQuery(task="mail.send"), limit=3)
        assert len(page) == 3
        rest = jm.jobs.list(JobQuery(task="mail.send"), limit=3, after=page.after)
        assert {job.id for job in (*page, *rest)} == {result.id for result in results}
        assert {job.lane for job in page.jobs} == {"mail"}
        assert jm.jobs.count() == {JobStatus.SUCCEEDED: 5, JobStatus.FAILED: 1}
        assert jm.jobs.list(JobQuery(statuses=(JobStatus.FAILED,))).jobs[0].error.message == "disk"
        info = jm.jobs.get(results[2].id)
        assert (info.args, info.kwargs, info.result, info.worker) == ((2,), {}, 2, jm.workers.list()[0].name)
        assert jm.jobs.get("nobody") is None
        assert jm.jobs.list(JobQuery(worker="nobody")).jobs == ()
        with pytest.raises(ConfigurationError, match="1 to 1000"):
            jm.jobs.list(limit=0)
        assert {bucket.owner for bucket in jm.buckets.list()} == {info.worker}
