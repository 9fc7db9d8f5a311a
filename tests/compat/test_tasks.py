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
    TaskRevokedError,
    TimeoutError,  # noqa: A004 - Celery's name
)
from jobmaster.compat.result import AsyncResult
from jobmaster.errors import ConfigurationError, NotRegistered

pytestmark = pytest.mark.backend("sqlite")

WAIT = 20


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


def test_a_revoked_task_does_not_start(app):
    ran = []

    @app.task
    def work():
        ran.append(1)

    with app.jobmaster:
        result = work.apply_async(countdown=5)
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


def test_a_task_is_put_into_schedules_as_it_is(app):
    ran = []

    @app.jobmaster.every("every 1 second", {"step": 7}, name="ticks")
    @app.task(bind=True, max_retries=1, queue="mail")
    def tick(self, step):
        ran.append((self.request.retries, step))
        if not self.request.retries:
            raise self.retry(countdown=0.01)

    with app.jobmaster:
        info = app.jobmaster.scheduler.recurring(tick, "every day at 9:00", {"step": 8}, name="daily")
        assert app.jobmaster.scheduler.once_now(tick, {"step": 9}).get(timeout=WAIT) is None
        app.jobmaster.scheduler.run_now("daily").get(timeout=WAIT)
        stop_by = time.monotonic() + WAIT
        while (1, 7) not in ran and time.monotonic() < stop_by:
            time.sleep(0.01)

    assert {(0, 7), (1, 7), (1, 8), (1, 9)} <= set(ran)
    assert (tick.name, info.task, info.lane) == (info.task, tick.name, "mail")


def test_every_state_is_either_ready_or_not():
    assert states.ALL_STATES | {states.REJECTED} == states.READY_STATES | states.UNREADY_STATES
    assert not states.READY_STATES & states.UNREADY_STATES
    assert set(states.STATE_OF.values()) <= states.ALL_STATES
    assert states.PROPAGATE_STATES < states.READY_STATES
    assert states.PROPAGATE_STATES < states.EXCEPTION_STATES
