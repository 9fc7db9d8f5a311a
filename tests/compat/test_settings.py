"""`app.conf`, URLs, queues and priorities."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace

import pytest

from jobmaster.compat import Celery
from jobmaster.compat.addresses import is_ours, stores_of
from jobmaster.compat.app import cluster_id_of
from jobmaster.compat.exceptions import NoEffectWarning
from jobmaster.compat.rebuilding import exception_of
from jobmaster.compat.retrying import backoff_seconds, may_retry
from jobmaster.compat.routing import lane_of, priority_of, routed_queue
from jobmaster.errors import ConfigurationError
from jobmaster.model.states import Priority
from jobmaster.settings.names import check_cluster_id


def test_settings_reach_the_cluster(tmp_path):
    app = Celery("proj", broker=f"sqlite:///{tmp_path}/p.db", timezone="Europe/Berlin", include=["json"])
    app.conf.update(
        result_expires=timedelta(days=2),
        task_acks_late=True,
        task_time_limit=30,
        task_soft_time_limit=20,
        task_default_queue="work",
        task_default_priority=9,
        task_routes={"mail.*": {"queue": "mail"}},
        worker_concurrency=7,
        worker_max_tasks_per_child=1000,
        worker_max_memory_per_child=200_000,
        imports=("decimal",),
    )
    app.task(name="mail.send")(lambda: None)
    app.task(name="other", time_limit=5, soft_time_limit=2, priority=0, acks_late=False)(lambda: None)

    settings, registry = app.jobmaster.settings, app.jobmaster.registry

    assert settings.retention == 2 * 86_400
    assert settings.time_zone == "Europe/Berlin"
    assert settings.include == ("decimal", "json")
    assert settings.workers[0].slots == 7
    assert (settings.max_tasks_per_child, settings.max_memory_per_child) == (1000, 196)
    mail, other = registry.get("mail.send"), registry.get("other")
    assert (mail.target.lane, mail.target.priority, mail.target.at_most_once) == ("mail", 5, False)
    assert (mail.limits.timeout, mail.limits.soft_timeout) == (30, 20)
    assert (other.target.lane, other.target.priority, other.target.at_most_once) == ("work", 1, True)
    assert (other.limits.timeout, other.limits.soft_timeout) == (5, 2)


def test_without_settings_a_task_has_no_limit_no_retry_and_the_default_lane(app):
    app.task(name="work")(lambda: None)

    work = app.jobmaster.registry.get("work")

    assert work.policy(app.jobmaster.settings).timeout is None
    assert work.policy(app.jobmaster.settings).max_retries == 0
    assert work.target.lane == ""


@pytest.mark.parametrize(
    "source",
    [
        {"task_time_limit": 9, "BROKER_URL": "sqlite:///x.db"},
        SimpleNamespace(CELERYD_TASK_TIME_LIMIT=9, broker_url="sqlite:///x.db", helper=print, module=sys, _x=1),
    ],
    ids=["mapping", "object"],
)
def test_config_from_object_reads_new_and_old_names(source):
    app = Celery("proj")
    app.config_from_object(source)

    assert app.conf.task_time_limit == app.conf["CELERYD_TASK_TIME_LIMIT"] == 9
    assert app.conf.broker_url == "sqlite:///x.db"


def test_config_from_object_reads_a_module_by_name_and_a_namespace(tmp_path, monkeypatch):
    (tmp_path / "shop_settings.py").write_text(
        "import os\nDEBUG = True\nCELERY_TASK_ACKS_LATE = True\nCELERY_BROKER_URL = 'sqlite:///x.db'\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    app = Celery("proj")
    app.config_from_object("shop_settings", namespace="CELERY")

    assert app.conf.task_acks_late is True
    assert app.conf.broker_url == "sqlite:///x.db"
    with pytest.raises(ConfigurationError, match="no_such_settings"):
        app.config_from_object("no_such_settings")


@pytest.mark.parametrize("name", ["beat_schedule", "task_always_eager", "CELERY_SEND_TASK_ERROR_EMAILS", "my_own"])
def test_a_setting_without_effect_is_named_and_kept(app, name):
    with pytest.warns(NoEffectWarning, match=name):
        app.conf[name] = {"a": 1}

    assert app.conf[name] == {"a": 1}


@pytest.mark.parametrize("name", ["beat_schedule", "CELERYBEAT_SCHEDULE"])
def test_what_is_written_in_another_way_says_how(app, name):
    with pytest.warns(NoEffectWarning, match=rf"{name} has no effect .*@app\.jobmaster\.every"):
        app.conf[name] = {}


@pytest.mark.parametrize(
    ("name", "value"), [("task_serializer", "pickle"), ("enable_utc", False), ("task_protocol", 1)]
)
def test_a_setting_with_only_one_possible_value_says_which(app, name, value):
    with pytest.warns(NoEffectWarning, match=f"{name}.*always"):
        app.conf[name] = value


def test_settings_that_say_how_it_is_anyway_are_silent(app):
    app.conf.update(
        task_serializer="json", result_serializer="json", accept_content=["json"], enable_utc=True,
        task_track_started=True, broker_connection_retry_on_startup=True,
    )  # fmt: skip


def test_a_misspelt_setting_has_a_hint(app):
    with pytest.warns(NoEffectWarning, match="'task_acks_late'"):
        app.conf.task_ack_late = True
    with pytest.raises(AttributeError, match="'task_time_limit'"):
        _ = app.conf.task_timelimit


def test_a_setting_that_comes_too_late_is_refused(app):
    _ = app.jobmaster
    app.conf.task_acks_late = False  # as it is: no harm

    with pytest.raises(ConfigurationError, match="task_acks_late"):
        app.conf.task_acks_late = True


@pytest.mark.parametrize(
    ("value", "kept"),
    [(3600, 3600), (timedelta(days=1), 86_400), (None, None), (0, None)],
)
def test_result_expires_says_how_long_ended_tasks_are_kept(tmp_path, value, kept):
    app = Celery("proj", broker=f"sqlite:///{tmp_path}/p.db", result_expires=value)

    assert app.jobmaster.settings.retention == kept
    assert Celery("proj", broker=f"sqlite:///{tmp_path}/p.db").jobmaster.settings.retention == 30 * 86_400


@pytest.mark.parametrize("value", ["soon", True, [], -1, 60])
def test_result_expires_is_ten_minutes_or_longer(tmp_path, value):
    app = Celery("proj", broker=f"sqlite:///{tmp_path}/p.db", result_expires=value)

    with pytest.raises(ConfigurationError, match=r"result_expires|retention"):
        _ = app.jobmaster


@pytest.mark.parametrize(
    ("broker", "backend", "master", "agents"),
    [
        ("sqlite:///p.db", None, "sqlite:///p.db", []),
        ("sqlite:///p.db", "sqlite:///p.db", "sqlite:///p.db", []),
        ("jobmaster+postgresql://h/p", None, "jobmaster+postgresql://h/p", []),
        ("postgresql+psycopg://h/p", None, "postgresql+psycopg://h/p", []),
        ("nats://h:4222", None, None, ["nats://h:4222"]),
        ("nats://h:4222", "postgresql://h/p", "postgresql://h/p", ["nats://h:4222"]),
        ("postgresql://a/p", "postgresql://m/p", "postgresql://m/p", ["postgresql://a/p"]),
        ("redis://h", "postgresql://h/p", None, []),
        (None, None, None, []),
    ],
)
def test_urls_name_master_and_agent(broker, backend, master, agents):
    stores = stores_of(broker, backend)

    assert stores.master == master
    assert [agent.url for agent in stores.agents] == agents


def test_a_foreign_result_backend_has_no_effect():
    with pytest.warns(NoEffectWarning, match=r"redis://h/0.*master database"):
        assert stores_of("sqlite:///p.db", "redis://h/0").master == "sqlite:///p.db"


def test_celerys_variables_win_over_arguments(monkeypatch):
    monkeypatch.setenv("CELERY_BROKER_URL", "sqlite:///env.db")

    assert stores_of("redis://h", None).master == "sqlite:///env.db"


FOREIGN = """
from jobmaster.compat import Celery
first = Celery("first", broker="redis://localhost/0")
first.jobmaster.jobs.list()
second = Celery("second", broker="redis://localhost/0")
try:
    second.jobmaster
except ValueError as error:
    print(error)
"""


def test_with_a_foreign_broker_the_environment_names_the_master(tmp_path):
    """Of the first app; a second one of the process has a variable of its own, and the error names it."""
    environment = {**os.environ, "JOBMASTER_MASTER": f"sqlite:///{tmp_path}/env.db"}

    done = subprocess.run(
        [sys.executable, "-c", FOREIGN], env=environment, capture_output=True, text=True, check=True, timeout=60
    )

    assert (tmp_path / "env.db").exists()
    assert "JOBMASTER_CLUSTERS__SECOND__MASTER names no master" in done.stdout


def test_a_relative_path_begins_in_the_folder_of_the_app_s_file(tmp_path, monkeypatch):
    (tmp_path / "rel_app.py").write_text(
        "from jobmaster.compat import Celery\napp = Celery('rel', broker='sqlite:///rel.db')\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import rel_app  # type: ignore[import-not-found]

    assert rel_app.app.jobmaster.settings.master.path == str(tmp_path / "rel.db")


@pytest.mark.parametrize(
    ("url", "ours"),
    [("sqlite:///a", True), ("JobMaster+NATS://h", True), ("redis://h", False), ("postgresql:h", False), ("", False)],
)
def test_a_url_is_ours_by_its_scheme(url, ours):
    assert is_ours(url) is ours


@pytest.mark.parametrize("main", ["proj", "shop.celery", "my proj!", "__main__", "", None, "--x--", "a" * 90, "päd"])
def test_any_main_names_a_cluster(main):
    assert check_cluster_id(cluster_id_of(main))


def test_main_stands_for_a_script_in_the_names_of_tasks(app, monkeypatch):
    def work(): ...

    work.__module__ = "__main__"

    assert app.task(work).name == "proj.work"
    assert re.fullmatch(r"\w+\.work", Celery().task(work).name)


@pytest.mark.parametrize(
    ("queue", "default", "lane"),
    [
        ("mail", "celery", "mail"),
        ("celery", "celery", "default"),
        ("celery", "work", "celery"),
        ("work", "work", "work"),
    ],
)
def test_a_queue_is_the_lane_of_its_name(queue, default, lane):
    assert lane_of(queue, default) == lane
    assert lane_of(SimpleNamespace(name=queue), default) == lane


@pytest.mark.parametrize(
    ("routes", "queue"),
    [
        ({"mail.*": "a", "mail.send": "b"}, "b"),
        ({"mail.*": {"queue": "a"}}, "a"),
        ([("mail.*", {"queue": "a"})], "a"),
        ([{"other": "a"}, {"mail.send": "b"}], "b"),
        ({re.compile(r"mail\.(send|sent)"): {"queue": "r"}}, "r"),
        ({"other.*": "a"}, None),
        (None, None),
    ],
)
def test_routes_name_queues_exact_ones_first(routes, queue):
    assert routed_queue("mail.send", routes) == queue


@pytest.mark.parametrize("routes", [lambda name: None, "shop.routers.Router", {"mail.send": {"exchange": "x"}}, 7])
def test_other_routers_are_refused(routes):
    with pytest.raises(ConfigurationError, match="queue"):
        routed_queue("mail.send", routes)


def test_ten_priorities_become_five():
    assert [int(priority_of(number)) for number in range(10)] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert priority_of(Priority.HIGH) is Priority.HIGH


def test_three_retries_are_four_attempts():
    assert [may_retry(retries, 3) for retries in range(5)] == [True, True, True, False, False]
    assert may_retry(10_000, None)


@pytest.mark.parametrize(
    ("backoff", "retries", "seconds"),
    [(True, 0, 1), (True, 3, 8), (5, 2, 20), (1, 99, 600), (0.5, 1, 2), (1, 10**6, 600)],
)
def test_backoff_doubles_up_to_its_maximum(backoff, retries, seconds):
    assert backoff_seconds(backoff, retries=retries, maximum=600, jitter=False, draw=lambda n: 0) == seconds
    assert backoff_seconds(backoff, retries=retries, maximum=600, jitter=True, draw=lambda n: n - 1) == seconds
    assert backoff_seconds(backoff, retries=retries, maximum=600, jitter=True, draw=lambda n: 0) == 0


def test_exceptions_are_rebuilt_without_importing_anything():
    assert repr(exception_of("ValueError", "no")) == "ValueError('no')"
    assert repr(exception_of("KeyError", "'order'")) == "KeyError('order')"
    assert repr(exception_of("KeyError", "a text of the user's own")) == 'KeyError("a text of the user\'s own")'
    assert exception_of("jobmaster.errors.JobFailed", "x").__class__.__name__ == "JobFailed"
    made = exception_of("no_such_module.Broken", "x")
    assert (type(made).__name__, type(made).__module__, str(made)) == ("Broken", "no_such_module", "x")
    assert "no_such_module" not in sys.modules


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "subprocess.Popen",
        "SystemExit",
        "KeyboardInterrupt",
        "builtins.exit",
        "print",
        "",
        ".",
        "a..b",
        "sys",
    ],
)
def test_names_that_are_no_exception_class_call_nothing(name):
    made = exception_of(name, "echo harm")

    assert isinstance(made, Exception)
    assert "echo harm" in str(made)
