"""One run of a job: what becomes of its result or its exception."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobmaster import (
    Ignore,
    JobCancelled,
    JobContext,
    JobMaster,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    current_job,
)
from jobmaster.context import running_job
from jobmaster.execution import TaskWorkload
from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Envelope
from jobmaster.model.run import End, Ended, Run
from jobmaster.runtime import workload_of


@pytest.fixture
def jm() -> JobMaster:
    return JobMaster("execution", master="sqlite:////tmp/never-opened.db", max_result_bytes=2_000)


def workload(jm: JobMaster) -> TaskWorkload:
    return TaskWorkload(jm.registry, codec=jm.codec, settings=jm.settings, injector=jm.injector)


def run_of(jm: JobMaster, task: Any, *args: Any, payload: bytes | None = None, **fields: Any) -> Run:
    name = task if isinstance(task, str) else task.name
    call = jm.codec.encode_call(args, {}) if payload is None else payload
    envelope = Envelope(task=name, call=call, created_us=1, scheduled_us=2_000_000, lane="mail", priority=4)
    values: dict[str, Any] = {
        "key": new_job_key(), "envelope": envelope, "payload": b"", "attempt": 2, "failures": 1, "max_retries": 3,
        "scheduled_us": 2_000_000, "deadline_us": None, "timeout": None, "soft_timeout": None, "worker": "w-1",
    }  # fmt: skip
    return Run(**{**values, **fields})


def execute(jm: JobMaster, task: Any, *args: Any, **fields: Any) -> Ended:
    run = run_of(jm, task, *args, **fields)
    made = workload(jm)
    policy = made.policy(run.envelope.task)
    if policy is not None and policy.is_async:
        return asyncio.run(made.invoke_async(run))
    return made.invoke_sync(run)


def raising(jm: JobMaster, error: BaseException, **options: Any) -> Any:
    @jm.task(name="raising", **options)
    def task() -> None:
        raise error

    return task


def test_the_context_says_what_runs(jm: JobMaster) -> None:
    seen: list[JobContext] = []

    @jm.task(name="look")
    async def look(number: int) -> int:
        await asyncio.sleep(0)
        seen.append(current_job())
        return number

    ended = execute(jm, look, 3)

    assert (ended.end, jm.codec.decode_value(ended.result or b"")) == (End.RETURNED, 3)
    context = seen[0]
    assert (context.task, context.args, context.attempt, context.max_retries) == ("look", (3,), 2, 3)
    assert (context.lane, context.priority.name, context.worker) == ("mail", "HIGH", "w-1")
    assert context.scheduled_at == datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC)
    assert running_job() is None, "after the run nothing runs here"


def test_none_is_no_result(jm: JobMaster) -> None:
    @jm.task
    def nothing() -> None: ...

    assert execute(jm, nothing) == Ended(End.RETURNED)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
@pytest.mark.parametrize(("way", "code"), [("return", 0), ("exit", 7), ("raise", 1)])
def test_a_child_that_a_task_forked_ends_where_the_task_ends(jm: JobMaster, way: str, code: int) -> None:
    @jm.task
    def fork() -> int:
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if way == "exit":
            sys.exit(7)
        if way == "raise":
            raise ValueError("of the child")
        return -1

    ended = execute(jm, fork)

    assert (ended.end, jm.codec.decode_value(ended.result or b"")) == (End.RETURNED, code)


@pytest.mark.parametrize(
    ("error", "end", "reason"),
    [
        (Ignore(), End.IGNORED, "ignored"),
        (Reject("no"), End.REJECTED, "no"),
        (Reject("later", requeue=True), End.REQUEUED, "later"),
        (Retry("again"), End.RETRY, "again"),
        (ValueError("x"), End.RAISED, ""),
    ],
)
def test_what_a_task_raises_steers_the_job(jm: JobMaster, error: Exception, end: End, reason: str) -> None:
    ended = execute(jm, raising(jm, error))
    assert (ended.end, ended.reason) == (end, reason)


def test_a_retry_carries_its_delay_its_limit_and_what_was_wrong(jm: JobMaster) -> None:
    @jm.task
    def flaky() -> None:
        try:
            raise OSError("disk")
        except OSError as error:
            raise Retry("disk again", countdown=timedelta(minutes=2), max_retries=9) from error

    ended = execute(jm, flaky)
    assert (ended.countdown, ended.max_retries) == (120.0, 9)
    assert ended.error is not None
    assert (ended.error.type, ended.error.message) == ("OSError", "disk")


def test_a_retry_at_a_moment_waits_until_then_and_a_naive_one_fails_for_good(jm: JobMaster) -> None:
    ended = execute(jm, raising(jm, Retry(at=datetime.now(UTC) + timedelta(seconds=30))))
    assert ended.countdown == pytest.approx(30, abs=2)

    other = JobMaster("naive", master="sqlite:////tmp/never-opened.db")
    ended = execute(other, raising(other, Retry(at=datetime(2026, 1, 1))))  # noqa: DTZ001 - that is the point
    assert (ended.end, ended.retryable) == (End.RAISED, False)
    assert ended.error is not None
    assert "no time zone" in ended.error.message


@pytest.mark.parametrize(
    ("error", "options", "retryable"),
    [
        (OSError(), {}, True),
        (OSError(), {"retry_on": (ValueError,)}, False),
        (ValueError(), {"retry_on": (ValueError, OSError)}, True),
        (FileNotFoundError(), {"retry_on": OSError}, True),
        (FileNotFoundError(), {"retry_on": OSError, "give_up_on": (FileNotFoundError,)}, False),
        (SoftTimeLimitExceeded(), {}, True),
        (SoftTimeLimitExceeded(), {"give_up_on": (SoftTimeLimitExceeded,)}, False),
    ],
)
def test_which_exceptions_are_tried_again(jm: JobMaster, error: Exception, options: Any, retryable: bool) -> None:
    assert execute(jm, raising(jm, error, **options)).retryable is retryable


def test_a_run_that_was_told_to_stop_and_listens_leaves_the_meaning_to_its_pool(jm: JobMaster) -> None:
    """A cancel and a shutdown look the same from inside: only the pool knows which it was."""

    @jm.task(bind=True)
    def polite(ctx: JobContext) -> None:
        ctx.check_cancelled()

    ended = execute(jm, polite, halting=True)
    assert ended.error is not None
    assert (ended.end, ended.error.type) == (End.RAISED, "jobmaster.errors.JobCancelled")
    assert execute(jm, polite, halting=False).end is End.RETURNED
    assert execute(jm, raising(jm, JobCancelled("another one"))).end is End.RAISED


def test_cancellation_of_a_coroutine_passes_through(jm: JobMaster) -> None:
    @jm.task
    async def forever() -> None:
        await asyncio.sleep(60)

    async def scenario() -> None:
        running = asyncio.ensure_future(workload(jm).invoke_async(run_of(jm, forever)))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_what_ends_a_process_passes_through(jm: JobMaster, error: BaseException) -> None:
    with pytest.raises(type(error)):
        execute(jm, raising(jm, error))


def test_results_that_cannot_be_kept_fail_the_job_for_good(jm: JobMaster) -> None:
    @jm.task
    def unwritable() -> object:
        return object()

    @jm.task
    def large() -> str:
        return "x" * 3_000

    for task, kind in ((unwritable, "SerializationError"), (large, "MessageTooLarge")):
        ended = execute(jm, task)
        assert ended.error is not None
        assert ended.error.type.endswith(kind)
        assert ended.retryable is False


def test_a_coroutine_in_disguise_is_told_and_an_async_callable_object_is_awaited(jm: JobMaster) -> None:
    async def hidden() -> int:
        return 1

    class Callable:
        async def __call__(self) -> int:
            return 2

    @jm.task(name="disguised")
    def disguised() -> object:
        return hidden()

    jm.task(name="object")(Callable())

    ended = execute(jm, "disguised")
    assert ended.error is not None
    assert "Write async def" in ended.error.message
    assert execute(jm, "object").result == b"2"


def test_a_payload_that_cannot_be_read_or_an_unknown_task_fails_the_job_for_good(jm: JobMaster) -> None:
    @jm.task
    def hello() -> None: ...

    damaged = execute(jm, hello, payload=b"\xff{")
    unknown = execute(jm, "nobody")

    for ended, kind in ((damaged, "SerializationError"), (unknown, "NotRegistered")):
        assert ended.error is not None
        assert (ended.end, ended.retryable, ended.error.type.rpartition(".")[2]) == (End.RAISED, False, kind)


def test_an_error_whose_text_cannot_be_read_or_stored_is_told_all_the_same(jm: JobMaster) -> None:
    class SilentError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    ended = execute(jm, raising(jm, SilentError()))
    assert ended.error is not None
    assert ended.error.message == "<its text cannot be read>"

    other = JobMaster("hostile", master="sqlite:////tmp/never-opened.db")
    ended = execute(other, raising(other, ValueError("a\x00b\ud800" + "x" * 10_000)))
    assert ended.error is not None
    assert ended.error.message.startswith("a\\x00b\\ud800xxx")
    assert len(ended.error.message) < 5_000
    ended.error.traceback.encode()


def test_a_checkpoint_is_a_snapshot_and_one_that_cannot_travel_fails_where_it_was_made(jm: JobMaster) -> None:
    @jm.task(bind=True)
    def pages(ctx: JobContext) -> None:
        done = [1]
        ctx.checkpoint(done)
        done.append(2)
        raise OSError

    ended = execute(jm, pages, checkpoint=jm.codec.encode_value([0], "checkpoint"))
    assert jm.codec.decode_value(ended.checkpoint or b"") == [1]

    @jm.task(bind=True)
    def wrong(ctx: JobContext) -> None:
        ctx.checkpoint(object())

    ended = execute(jm, wrong)
    assert ended.error is not None
    assert "checkpoint" in ended.error.message


def test_policies_follow_the_task_and_else_the_cluster() -> None:
    jm = JobMaster("p", master="sqlite:////tmp/never-opened.db", default_timeout=7, default_max_retries=9)

    @jm.task(name="own", timeout=None, max_retries=0, soft_timeout=timedelta(seconds=2), acks_late=False)
    async def own() -> None: ...

    @jm.task(name="cluster")
    def cluster() -> None: ...

    mine, theirs = workload(jm).policy("own"), workload(jm).policy("cluster")
    assert mine is not None
    assert theirs is not None
    assert (mine.timeout, mine.max_retries, mine.soft_timeout, mine.at_most_once, mine.is_async) == (
        None, 0, 2.0, True, True,
    )  # fmt: skip
    assert (theirs.timeout, theirs.max_retries, theirs.at_most_once, theirs.is_async) == (7.0, 9, False, False)
    assert workload(jm).policy("nobody") is None


def test_the_cluster_s_default_limit_is_a_soft_one_in_threads_and_a_hard_one_elsewhere() -> None:
    jm = JobMaster("p", master="sqlite:////tmp/never-opened.db", default_timeout=7)

    @jm.task(name="sync")
    def sync() -> None: ...

    @jm.task(name="own", timeout=3)
    def own() -> None: ...

    @jm.task(name="on_loop")
    async def on_loop() -> None: ...

    def limits(name: str, *, pool: str) -> tuple[float | None, float | None]:
        policy = workload_of(jm, pool=pool).policy(name)
        assert policy is not None
        return policy.soft_timeout, policy.timeout

    assert limits("sync", pool="threads") == limits("sync", pool="solo") == (7.0, None)
    assert limits("sync", pool="processes") == (None, 7.0)
    assert limits("own", pool="threads") == (None, 3.0)
    assert limits("on_loop", pool="threads") == (None, 7.0)
