"""How jobs end in an app with workers of its own: retries, cancels, limits, expiry, results that cannot be kept."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from jobmaster import (
    Backoff,
    CancelOutcome,
    Ignore,
    JobCancelled,
    JobContext,
    JobFailed,
    JobMaster,
    JobStatus,
    Reject,
    Retry,
    TimeLimitExceeded,
    current_job,
)

pytestmark = pytest.mark.backend("sqlite")


def test_failures_are_retried_by_rule_and_told_with_their_traceback(jm: JobMaster) -> None:
    quickly = Backoff(base=0.02, factor=1, cap=0.02, jitter=False)
    seen = []

    @jm.task(max_retries=2, retry=quickly)
    def flaky() -> str:
        seen.append(current_job().attempt)
        if current_job().attempt < 3:
            raise OSError("not yet")
        return "at last"

    @jm.task(max_retries=5, retry=quickly, give_up_on=(ValueError,))
    def hopeless() -> None:
        raise ValueError("never")

    @jm.task(max_retries=5, retry=quickly, retry_on=(OSError,))
    def wrong_kind() -> None:
        raise KeyError("k")

    with jm:
        result = flaky.delay()
        assert result.get(timeout=30) == "at last"
        assert seen == [1, 2, 3]
        assert result.attempts == 3
        assert [attempt.attempt for attempt in jm.jobs.attempts(result.id)] == [1, 2]

        with pytest.raises(JobFailed, match="ValueError: never") as told:
            hopeless.delay().get(timeout=30)
        assert told.value.error_type == "ValueError"
        assert 'raise ValueError("never")' in told.value.traceback
        failed = wrong_kind.delay()
        with pytest.raises(JobFailed, match="KeyError"):
            failed.get(timeout=30)
        assert isinstance(failed.error, JobFailed)
        assert failed.attempts == 1
        assert jm.jobs.retry(failed.id) is True


def test_retry_ignore_and_reject_steer_a_job(jm: JobMaster) -> None:
    @jm.task(bind=True, max_retries=1)
    def again(ctx: JobContext) -> int:
        if ctx.attempt == 1:
            ctx.checkpoint({"page": 7})
            raise Retry("come back", countdown=0.05)
        return ctx.checkpoint_data["page"]

    @jm.task
    def ignored() -> int:
        raise Ignore

    @jm.task(max_retries=5)
    def rejected() -> None:
        raise Reject("not for us")

    with jm:
        assert again.delay().get(timeout=30) == 7
        result = ignored.delay()
        assert result.get(timeout=30) is None
        assert jm.jobs.get(result.id).reason == "ignored"
        result = rejected.delay()
        with pytest.raises(JobFailed):
            result.get(timeout=30)
        info = jm.jobs.get(result.id)
        assert (info.status, info.attempts, info.reason) == (JobStatus.FAILED, 1, "not for us")


def test_cancelling_a_waiting_and_a_running_job(jm: JobMaster) -> None:
    running = threading.Event()

    @jm.task
    async def long() -> None:
        running.set()
        await asyncio.sleep(60)

    with jm:
        waiting = long.options(delay=3600).delay()
        assert jm.scheduler.cancel(waiting.id) is CancelOutcome.CANCELLED
        with pytest.raises(JobCancelled):
            waiting.get(timeout=30)
        result = long.delay()
        assert running.wait(30)
        assert result.cancel() is CancelOutcome.REQUESTED
        with pytest.raises(JobCancelled):
            result.get(timeout=30)


def test_a_sync_job_that_listens_ends_at_a_cancel_and_is_handed_back_at_a_shutdown(jm: JobMaster) -> None:
    running = threading.Event()

    @jm.task(bind=True, max_retries=0)
    def listening(ctx: JobContext) -> None:
        running.set()
        while True:
            ctx.check_cancelled()
            time.sleep(0.01)

    jm.configure({"grace": 1})
    with jm:
        result = listening.delay()
        assert running.wait(30)
        result.cancel()
        with pytest.raises(JobCancelled):
            result.get(timeout=30)
        running.clear()
        other = listening.delay()
        assert running.wait(30)
    assert other.status is JobStatus.HELD_ON_MASTER, "nothing was spent: the next worker runs it"
    assert other.attempts == 0


def test_limits_end_runs(jm: JobMaster) -> None:
    @jm.task(timeout=0.3, max_retries=0)
    async def endless() -> None:
        await asyncio.sleep(60)

    with jm, pytest.raises(TimeLimitExceeded):
        endless.delay().get(timeout=30)


def test_an_expired_job_never_runs(jm: JobMaster) -> None:
    ran = []

    @jm.task
    def hello() -> None:
        ran.append(1)

    result = hello.options(expires=0.05, job_id="late").delay()
    time.sleep(0.1)
    with jm, pytest.raises(JobFailed, match="expired"):
        result.get(timeout=30)
    assert ran == []


def test_results_that_cannot_be_kept_fail_the_job_at_once(jm: JobMaster) -> None:
    @jm.task(max_retries=5)
    def lock() -> object:
        return threading.Lock()

    @jm.task(max_retries=5)
    def huge() -> str:
        return "x" * 2_000_000

    with jm:
        with pytest.raises(JobFailed, match="SerializationError"):
            lock.delay().get(timeout=30)
        result = huge.delay()
        with pytest.raises(JobFailed, match="max_result_bytes is 1,048,576"):
            result.get(timeout=30)
        assert result.attempts == 1
