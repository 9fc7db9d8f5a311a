"""Retries, failures and limits of a Celery app's tasks, run by workers on an SQLite file."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from jobmaster.compat import states
from jobmaster.compat.exceptions import (
    Ignore,
    MaxRetriesExceededError,
    Reject,
    Retry,
    TimeoutError,  # noqa: A004 - Celery's name
)
from jobmaster.errors import ConfigurationError, JobFailed

pytestmark = pytest.mark.backend("sqlite")

WAIT = 20


class OutOfPaper(Exception):  # noqa: N818 - a user's own name
    """An exception of the user's own."""


class Picky(Exception):  # noqa: N818 - same
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")


def test_retry_repeats_until_it_works_under_the_same_id(app):
    seen = []

    @app.task(bind=True, max_retries=3, default_retry_delay=0.01)
    def flaky(self):
        seen.append((self.request.id, self.request.retries))
        if self.request.retries < 2:
            try:
                raise OutOfPaper("tray 1")
            except OutOfPaper as error:
                raise self.retry(exc=error)  # noqa: B904 - as Celery's users write it
        return "printed"

    with app.jobmaster:
        result = flaky.delay()
        assert result.get(timeout=WAIT) == "printed"

    assert seen == [(result.id, 0), (result.id, 1), (result.id, 2)]


def test_retry_gives_up_with_the_reason_it_was_given(app):
    runs = []

    @app.task(bind=True, max_retries=2, default_retry_delay=0.01)
    def broken(self):
        runs.append(1)
        raise self.retry(exc=OutOfPaper("tray 1"))

    with app.jobmaster:
        result = broken.delay()
        with pytest.raises(OutOfPaper, match="tray 1") as raised:
            result.get(timeout=WAIT)

    assert len(runs) == 3
    assert isinstance(raised.value.__cause__, JobFailed)
    assert "broken" in result.traceback
    assert (result.state, result.failed()) == (states.FAILURE, True)
    assert isinstance(result.result, OutOfPaper)
    assert isinstance(result.get(propagate=False), OutOfPaper)


def test_retry_without_a_reason_ends_in_max_retries_exceeded(app):
    @app.task(bind=True, max_retries=0)
    def broken(self, x):
        self.retry()

    with app.jobmaster, pytest.raises(MaxRetriesExceededError, match=r"Can't retry .*broken"):
        broken.delay(1).get(timeout=WAIT)


def test_max_retries_none_goes_on_and_a_retry_may_set_its_own_limit(app):
    runs = {"endless": 0, "own": 0}

    @app.task(bind=True, max_retries=None)
    def endless(self):
        runs["endless"] += 1
        if self.request.retries < 8:
            raise self.retry(countdown=0)

    @app.task(bind=True, max_retries=50)
    def own(self):
        runs["own"] += 1
        raise self.retry(countdown=0, max_retries=1, exc=OutOfPaper("own"))

    with app.jobmaster:
        endless.delay().get(timeout=WAIT)
        with pytest.raises(OutOfPaper):
            own.delay().get(timeout=WAIT)

    assert runs == {"endless": 9, "own": 2}


def test_while_it_waits_for_a_retry_the_state_is_retry(app):
    @app.task(bind=True)
    def later(self):
        try:
            raise OutOfPaper("tray 1")
        except OutOfPaper as error:
            raise self.retry(exc=error, eta=datetime.now(UTC) + timedelta(hours=1)) from error

    with app.jobmaster:
        result = later.delay()
        end = time.monotonic() + WAIT
        while result.state != states.RETRY:
            assert time.monotonic() < end, result.state
            time.sleep(0.01)
        assert isinstance(result.result, OutOfPaper)
        assert "later" in result.traceback
        assert not result.ready()
        with pytest.raises(TimeoutError):
            result.get(timeout=0.05)
        result.revoke()
        assert result.state == states.REVOKED


def test_an_exception_without_retry_is_final(app):
    runs = []

    @app.task(max_retries=5)
    def broken():
        runs.append(1)
        raise KeyError("order", 7)

    with app.jobmaster:
        result = broken.delay()
        with pytest.raises(KeyError):
            result.get(timeout=WAIT)

    assert len(runs) == 1


def test_autoretry_repeats_named_exceptions_only(app):
    runs = {"named": 0, "other": 0, "excluded": 0}

    @app.task(autoretry_for=(OSError,), retry_backoff=0.001, retry_backoff_max=0, max_retries=2)
    def named():
        runs["named"] += 1
        raise ConnectionError("refused")

    @app.task(autoretry_for=(OSError,), retry_kwargs={"max_retries": 4, "countdown": 0})
    def other():
        runs["other"] += 1
        raise OSError("disk") if runs["other"] < 3 else ValueError("no retry for this one")

    @app.task(autoretry_for=(OSError,), dont_autoretry_for=(PermissionError,), retry_kwargs={"countdown": 0})
    def excluded():
        runs["excluded"] += 1
        raise PermissionError("no")

    with app.jobmaster:
        for task, error in ((named, ConnectionError), (other, ValueError), (excluded, PermissionError)):
            with pytest.raises(error):
                task.delay().get(timeout=WAIT)

    assert runs == {"named": 3, "other": 3, "excluded": 1}


def test_ignore_and_reject_end_a_task_without_retries(app):
    @app.task(autoretry_for=(Exception,))
    def steered(how):
        if how == "ignore":
            raise Ignore
        raise Reject("not mine")

    with app.jobmaster:
        ignored, rejected = steered.delay("ignore"), steered.delay("reject")
        assert ignored.get(timeout=WAIT) is None
        with pytest.raises(Exception, match="not mine"):
            rejected.get(timeout=WAIT)

    assert rejected.state == states.FAILURE


def test_an_exception_whose_constructor_wants_more_comes_back_as_text(app):
    @app.task
    def broken():
        raise Picky(7, "no")

    with app.jobmaster, pytest.raises(Exception, match=r"Picky: 7: no"):
        broken.delay().get(timeout=WAIT)


def test_a_soft_limit_is_raised_in_the_task(app):
    from jobmaster.compat.exceptions import SoftTimeLimitExceeded

    @app.task(soft_time_limit=0.2)
    def slow():
        try:
            while True:
                time.sleep(0.01)
        except SoftTimeLimitExceeded:
            return "cleaned up"

    with app.jobmaster:
        assert slow.delay().get(timeout=WAIT) == "cleaned up"


def test_retry_outside_of_a_worker_raises_its_reason(app):
    @app.task(bind=True)
    def broken(self, exc):
        raise self.retry(exc=exc)

    with pytest.raises(OutOfPaper):
        broken(OutOfPaper("tray"))
    with pytest.raises(Retry):
        broken(None)


def test_a_retry_with_other_arguments_or_without_throw_is_refused(app):
    @app.task(bind=True)
    def other(self, x):
        raise self.retry(args=(x + 1,))

    @app.task(bind=True)
    def silent(self):
        self.retry(throw=False)

    @app.task(bind=True, max_retries=1)
    def same(self, x):
        if self.request.retries:
            return x
        raise self.retry(args=(x,), kwargs={}, countdown=0)

    with app.jobmaster:
        with pytest.raises(ConfigurationError, match="apply_async"):
            other.delay(1).get(timeout=WAIT)
        with pytest.raises(ConfigurationError, match=r"raise self\.retry"):
            silent.delay().get(timeout=WAIT)
        assert same.delay(1).get(timeout=WAIT) == 1
