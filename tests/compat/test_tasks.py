"""Tasks of a Celery app, run by workers on an SQLite file."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from jobmaster.compat import Celery, states
from jobmaster.compat.exceptions import (
    Ignore,
    MaxRetriesExceededError,
    Reject,
    Retry,
    TaskRevokedError,
    TimeoutError,  # noqa: A004 - Celery's name
)
from jobmaster.compat.result import AsyncResult
from jobmaster.errors import ConfigurationError, JobFailed, NotRegistered

pytestmark = pytest.mark.backend("sqlite")

WAIT = 20


class OutOfPaper(Exception):  # noqa: N818 - a user's own name
    """An exception of the user's own."""


class Picky(Exception):  # noqa: N818 - same
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")


def test_delay_and_get(app):
    @app.task
    def add(x, y):
        return x + y

    with app.jobmaster:
        result = add.delay(2, y=3)
        assert result.get(timeout=WAIT) == 5

    assert result.state == result.status == states.SUCCESS
    assert (result.ready(), result.successful(), result.failed()) == (True, True, False)
    assert result.result == result.info == 5
    assert result.traceback is None
    assert result.date_done.tzinfo is not None
    assert result.name == "tests.compat.test_tasks.add"


def test_an_async_function_is_a_task_too(app):
    @app.task(bind=True)
    async def add(self, x, y):
        return [self.request.retries, x + y]

    with app.jobmaster:
        assert add.delay(2, 3).get(timeout=WAIT) == [0, 5]


def test_a_plain_call_stays_a_plain_call(app):
    @app.task(bind=True)
    def which(self, x):
        return self.name, self.request.called_directly, self.request.id, x

    assert which(7) == ("tests.compat.test_tasks.which", True, None, 7)


def test_countdown_and_eta_wait(app):
    @app.task
    def now():
        return time.time()

    with app.jobmaster:
        begun = time.time()
        later = now.apply_async(countdown=0.6)
        at = now.apply_async(eta=datetime.now(UTC) + timedelta(seconds=0.6))
        assert later.get(timeout=WAIT) - begun >= 0.6
        assert at.get(timeout=WAIT) - begun >= 0.59


def test_a_bound_task_sees_its_request(app):
    @app.task(bind=True, name="who", queue="mail", priority=9)
    def who(self, *args, **kwargs):
        request = self.request
        return [request.id, list(request.args), request.kwargs, request.retries, request.delivery_info, self.name]

    with app.jobmaster:
        result = who.apply_async((1,), {"b": 2}, task_id="chosen")
        told = result.get(timeout=WAIT)

    assert result.id == "chosen"
    assert told == ["chosen", [1], {"b": 2}, 0, {"routing_key": "mail", "priority": 9}, "who"]


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


def test_a_revoked_task_does_not_start(app):
    ran = []

    @app.task
    def work():
        ran.append(1)

    with app.jobmaster:
        result = work.apply_async(countdown=0.5)
        result.revoke()
        with pytest.raises(TaskRevokedError, match="revoked"):
            result.get(timeout=WAIT)

    assert not ran
    assert result.state == states.REVOKED
    assert result.ready()
    assert not result.failed()
    assert isinstance(result.result, TaskRevokedError)


@pytest.mark.parametrize("expires", [-5, timedelta(seconds=-5), datetime(2020, 1, 1), "2020-01-01T00:00:00"])  # noqa: DTZ001 - a naive one
def test_a_task_that_expired_is_revoked(app, expires):
    @app.task
    def work():
        return "ran"

    with app.jobmaster:
        result = work.apply_async(expires=expires)
        with pytest.raises(TaskRevokedError, match="expired"):
            result.get(timeout=WAIT)

    assert result.state == states.REVOKED


def test_results_that_are_ignored_are_not_kept(app):
    @app.task(ignore_result=True)
    def quiet():
        return "a secret"

    with app.jobmaster:
        result = quiet.delay()
        assert result.get(timeout=WAIT) is None
    assert result.state == states.SUCCESS


def test_get_inside_a_task_is_refused(app):
    @app.task
    def inner():
        return 1

    @app.task
    def outer():
        return inner.delay().get(timeout=5)

    with app.jobmaster, pytest.raises(RuntimeError, match=r"Never call result\.get\(\) within a task"):
        outer.delay().get(timeout=WAIT)


def test_an_unknown_id_is_pending(app):
    result = app.AsyncResult("nobody")

    assert (result.state, result.ready(), result.result) == (states.PENDING, False, None)
    assert result == AsyncResult("nobody", app=app) == "nobody"
    assert str(result) == "nobody"


def test_a_waiting_task_is_pending(app):
    @app.task
    def work(): ...

    result = work.delay()

    assert result.state == states.PENDING
    with pytest.raises(TimeoutError):
        result.get(timeout=0.05)


def test_acks_late_false_is_at_most_once_and_the_default(app):
    @app.task
    def early(): ...

    @app.task(acks_late=True)
    def late(): ...

    registry = app.jobmaster.registry

    assert registry.get(early.name).target.at_most_once
    assert not registry.get(late.name).target.at_most_once


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


def test_send_task_by_name(app):
    @app.task(name="mail.send")
    def send(to):
        return f"sent to {to}"

    with app.jobmaster:
        assert app.send_task("mail.send", ("Ann",), countdown=0.01).get(timeout=WAIT) == "sent to Ann"
        with pytest.raises(NotRegistered):
            app.send_task("mail.sned", ("Ann",))
        with pytest.raises(ConfigurationError, match="countdown"):
            app.send_task("mail.sned", ("Ann",), countdown=1)


@pytest.mark.parametrize(
    ("args", "kwargs"), [(("a",), {}), ((), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1, 2), {"y": 3})]
)
def test_wrong_arguments_are_refused_before_anything_is_sent(app, args, kwargs):
    @app.task(bind=True)
    def add(self, x, y): ...

    with pytest.raises(TypeError, match="add"):
        add.apply_async(args, kwargs)


@pytest.mark.parametrize("args", ["text", 7, {"a": 1}])
def test_arguments_that_are_no_list_are_refused(app, args):
    @app.task
    def work(*args): ...

    with pytest.raises(TypeError, match="list or tuple"):
        work.apply_async(args)


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


def test_tasks_may_be_added_after_the_app_was_opened(app):
    app.jobmaster.jobs.list()

    @app.task
    def late():
        return "late"

    with app.jobmaster:
        assert late.delay().get(timeout=WAIT) == "late"
    assert late.name in app.tasks


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        Decimal("3.20"),
        UUID(int=7),
        {1, 2},
        (1, (2, 3)),
        b"\x00\xff",
        {"nested": [(1, Decimal(2))]},
    ],
)
def test_values_that_are_not_json_keep_their_type(app, value):
    @app.task
    def echo(value):
        return value

    with app.jobmaster:
        assert echo.delay(value).get(timeout=WAIT) == value


def test_get_on_a_running_loop_says_what_to_write(app):
    @app.task
    def add(x, y):
        return x + y

    async def main():
        result = add.delay(2, 3)
        with pytest.raises(RuntimeError, match=r"await app\.jobmaster\.result") as refusal:
            result.get(timeout=WAIT)
        advice = str(refusal.value).split("await ")[1]
        return await eval(advice, {"app": app})  # noqa: S307 - what the text says is to be written

    with app.jobmaster:
        assert asyncio.run(main()) == 5


def test_two_apps_have_their_own_tasks(app, tmp_path):
    other = Celery("other", broker=f"sqlite:///{tmp_path}/other.db")

    @app.task(name="work")
    def mine():
        return "mine"

    @other.task(name="work")
    def theirs():
        return "theirs"

    with app.jobmaster, other.jobmaster:
        assert mine.delay().get(timeout=WAIT) == "mine"
        assert theirs.delay().get(timeout=WAIT) == "theirs"
    other.close()
