"""Bad input to Celery's API: input, exception type, parts of the text. Nothing is sent or ignored silently."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from jobmaster.compat import Celery, current_app
from jobmaster.compat.exceptions import NoEffectWarning
from jobmaster.errors import ConfigurationError

TASK_OPTIONS = [
    ({"rate_limit": "10/m"}, ["rate_limit", "not supported"]),
    ({"base": object}, ["base", "function"]),
    ({"exchange": "x"}, ["exchange", "queue="]),
    ({"acks_on_failure_or_timeout": False}, ["acks_on_failure_or_timeout", "Reject(requeue=True)"]),
    ({"max_retires": 3}, ["max_retires", "'max_retries'"]),
    ({"max_retries": -1}, ["max_retries", "-1"]),
    ({"max_retries": "3"}, ["max_retries", "'3'"]),
    ({"autoretry_for": ("OSError",)}, ["autoretry_for", "exception types"]),
    ({"no_such_thing": 1}, ["no_such_thing", "docs/migration.md"]),
]
OPTIONS_AT_REGISTRATION = [
    ({"queue": "a b"}, ["'a b'", "lane"]),
    ({"queue": "x" * 26}, ["lane", "25"]),
    ({"queue": 7}, ["queue is 7"]),
    ({"priority": 10}, ["priority is 10", "0 (lowest) to 9"]),
    ({"time_limit": -1}, ["timeout"]),
    ({"time_limit": 5, "soft_time_limit": 6}, ["soft_timeout", "timeout"]),
]
CALL_OPTIONS = [
    ({"link": "x"}, ["link", "not supported"]),
    ({"routing_key": "x"}, ["routing_key", "queue="]),
    ({"headers": {}}, ["headers", "argument"]),
    ({"countdwon": 1}, ["countdwon", "'countdown'"]),
    ({"countdown": "soon"}, ["delay", "soon"]),
    ({"countdown": 1, "eta": "2030-01-01"}, ["countdown", "eta"]),
    ({"eta": "tomorrow"}, ["eta", "tomorrow"]),
    ({"eta": 7}, ["eta is 7", "datetime"]),
    ({"queue": "a/b"}, ["'a/b'"]),
    ({"priority": True}, ["priority is True"]),
    ({"task_id": ""}, ["job_id"]),
    ({"time_limit": 0}, ["timeout"]),
]


def says(error: BaseException, parts: list[str]) -> bool:
    return all(part in str(error) for part in parts)


@pytest.mark.parametrize(("options", "parts"), TASK_OPTIONS)
def test_an_option_of_a_task_that_cannot_be_is_refused_where_it_is_written(app, options, parts):
    with pytest.raises(ConfigurationError) as refusal:
        app.task(**options)(lambda: None)

    assert says(refusal.value, parts), refusal.value


@pytest.mark.parametrize(("options", "parts"), OPTIONS_AT_REGISTRATION)
def test_a_value_that_no_job_can_have_is_refused_when_the_app_opens(app, options, parts):
    app.task(**options, name="work")(lambda: None)

    with pytest.raises(ConfigurationError) as refusal:
        _ = app.jobmaster

    assert says(refusal.value, parts), refusal.value


@pytest.mark.parametrize(("options", "parts"), CALL_OPTIONS)
def test_an_option_of_a_call_that_cannot_be_is_refused_and_nothing_is_sent(app, options, parts):
    @app.task
    def work(): ...

    with pytest.raises(ConfigurationError) as refusal:
        work.apply_async(**options)

    assert says(refusal.value, parts), refusal.value
    assert app.jobmaster.jobs.list().jobs == ()


@pytest.mark.parametrize(
    "options",
    [{"throws": (OSError,)}, {"send_events": False}, {"serializer": "pickle"}, {"reject_on_worker_lost": True}],
)
def test_an_option_without_effect_is_named(app, options):
    with pytest.warns(NoEffectWarning, match=next(iter(options))):
        app.task(**options)(lambda: None)


@pytest.mark.parametrize("options", [{"retry": False}, {"retry_policy": {"max_retries": 3}}, {"shadow": "x"}])
def test_an_option_of_a_call_without_effect_is_named(app, options):
    @app.task
    def work(): ...

    with pytest.warns(NoEffectWarning, match=next(iter(options))):
        work.apply_async(**options)


def test_options_that_say_how_it_is_anyway_are_taken_silently(app):
    @app.task(serializer="json", track_started=True, typing=True, rate_limit=None, acks_on_failure_or_timeout=True)
    def work(): ...

    work.apply_async(retry=True, serializer="json", expires=None, queue=None)


def test_options_of_get_without_effect_are_named_and_others_refused(app):
    with pytest.warns(NoEffectWarning, match="interval"), pytest.raises(TimeoutError):
        app.AsyncResult("nobody").get(timeout=0.01, interval=0.1)
    with pytest.raises(ConfigurationError, match="callback"):
        app.AsyncResult("nobody").get(timeout=0.01, callback=print)


@pytest.mark.parametrize("broker", ["redis://localhost:6379/0", "amqp://guest:guest@localhost//", "memory://", None])
def test_an_app_without_a_store_of_ours_says_what_to_give(broker):
    app = Celery("proj", broker=broker)
    app.task(name="work")(lambda: None)

    with pytest.raises(ConfigurationError) as refusal:
        app.tasks["work"].delay()

    assert says(refusal.value, ["JOBMASTER_MASTER", "broker=", "sqlite:///"]), refusal.value
    assert "guest:guest" not in str(refusal.value)


def test_the_command_line_says_the_same_and_exits_with_2(tmp_path):
    (tmp_path / "proj.py").write_text(
        "from jobmaster.compat import Celery\napp = Celery('proj', broker='redis://:hunter2@localhost')\n",
        encoding="utf-8",
    )
    command = [str(Path(sys.executable).with_name("jobmaster")), "worker", "-A", "proj"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 2
    assert "JOBMASTER_MASTER" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


def test_a_broker_without_a_database_needs_a_master():
    with pytest.raises(ConfigurationError, match=r"carries tasks.*JOBMASTER_MASTER"):
        _ = Celery("proj", broker="nats://localhost:4222").jobmaster


def test_a_backend_that_is_no_database_is_refused():
    with pytest.raises(ConfigurationError, match="no SQL database"):
        _ = Celery("proj", broker="nats://localhost:4222", backend="nats://localhost:4223").jobmaster


def test_one_decorator_a_function(app):
    @app.task
    def work(): ...

    with pytest.raises(ConfigurationError, match="is a task already"):
        app.task(work)


def test_autodiscovery_needs_packages(app):
    with pytest.raises(ConfigurationError, match="packages"):
        app.autodiscover_tasks()


def test_names_of_later_issues_do_not_exist(app):
    @app.task
    def work(): ...

    for name in ("s", "si", "signature", "map", "chunks", "apply", "update_state", "replace"):
        assert not hasattr(work, name)
    assert not hasattr(app, "add_periodic_task")
    assert not hasattr(app, "control")


def test_without_any_app_there_is_no_current_one(app):
    assert current_app() is app
    other = Celery("other", set_as_current=False)
    assert current_app() is app
    del other


def test_nothing_warns_in_an_ordinary_program(app):
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        @app.task(bind=True, max_retries=5, default_retry_delay=1, acks_late=True, time_limit=30, soft_time_limit=20)
        def work(self): ...

        work.apply_async(countdown=5, queue="celery", priority=3, expires=60)
