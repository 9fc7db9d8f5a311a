"""Bad input at the app, a task or a call: which error, and what it says. Nothing is stored."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from jobmaster import (
    Agent,
    ConfigurationError,
    JobContext,
    JobMaster,
    JobMasterError,
    MessageData,
    NotRegistered,
    Priority,
    SerializationError,
    Worker,
)

pytestmark = pytest.mark.backend("sqlite")


@pytest.fixture
def jm(tmp_path: Path) -> Iterator[JobMaster]:
    app = JobMaster("bad", master=f"sqlite:///{tmp_path}/bad.db")
    yield app
    assert app.jobs.count() == {}, "bad input stores nothing"
    app.close()


@pytest.fixture
def hello(jm: JobMaster):
    @jm.task(name="hello")
    def hello(name: str, times: int = 1) -> str:
        return name * times

    return hello


OPTIONS: list[tuple[dict, str]] = [
    ({"dealy": 3}, "no option 'dealy'. Did you mean 'delay'"),
    ({"delay": "soon"}, "delay is 'soon', but a duration is"),
    ({"delay": float("nan")}, "delay is not finite"),
    ({"delay": timedelta(days=40_000)}, "no database can add"),
    ({"delay": 1, "at": datetime.now(UTC)}, "both say when"),
    ({"delay": 1, "countdown": 1}, "'delay' twice"),
    ({"eta": datetime.now(UTC), "at": datetime.now(UTC)}, "'at' twice"),
    ({"at": datetime(2026, 1, 1)}, "has no time zone"),  # noqa: DTZ001 - that is the point
    ({"at": "tomorrow"}, "at is 'tomorrow', but it is a moment"),
    ({"at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-9)))}, "outside of the years 1 to 9999"),
    ({"at": datetime.min.replace(tzinfo=timezone(timedelta(hours=9)))}, "outside of the years 1 to 9999"),
    ({"lane": "no spaces"}, "may hold letters"),
    ({"queue": "x" * 26}, "at most 25"),
    ({"lane": 3}, "is no text"),
    ({"priority": 6}, "priority is 6, but there are only"),
    ({"priority": "urgent"}, "Priority.CRITICAL"),
    ({"priority": True}, "priority is True"),
    ({"metadata": [1]}, "metadata is [1]"),
    ({"metadata": {1: 2}}, "dict with text as keys"),
    ({"metadata": {"a": object()}}, "metadata cannot be stored"),
    ({"metadata": {"a": float("nan")}}, "more than JSON can say"),
    ({"metadata": {"a": b"bytes"}}, "more than JSON"),
    ({"metadata": {"a": 2**70}}, "metadata cannot be stored ("),
    ({"metadata": {"a": "\ud800"}}, "stored ("),
    ({"expires": 0}, "could never start"),
    ({"expires": datetime(2026, 1, 1)}, "has no time zone"),  # noqa: DTZ001
    ({"timeout": 0}, "timeout is 0 s"),
    ({"timeout": -3}, "timeout is -3 s"),
    ({"timeout": 3, "soft_timeout": 5}, "too late to be of use"),
    ({"max_retries": -1}, "max_retries is -1"),
    ({"max_retries": 2.5}, "max_retries is 2.5"),
    ({"job_id": ""}, "job_id is ''"),
    ({"job_id": "x" * 256}, "1 to 255 characters"),
    ({"job_id": "a\x00b"}, "without NUL"),
    ({"job_id": "\ud800"}, "half of a character pair"),
    ({"job_id": 7}, "job_id is 7"),
    ({"durability": "disk"}, "'agent' or only by the 'master'"),
    ({"cluster": "unheard-of"}, "no app of cluster 'unheard-of'"),
]


@pytest.mark.parametrize(("options", "told"), OPTIONS, ids=[told for _, told in OPTIONS])
def test_options_of_a_call(hello, options: dict, told: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        hello.options(**options).delay("x")
    assert told in str(error.value)


TASK_OPTIONS: list[tuple[dict, str]] = [
    ({"laen": "x"}, "no option 'laen'. Did you mean 'lane'"),
    ({"unique_for": 3}, "no option 'unique_for'"),
    ({"name": ""}, "task's name is ''"),
    ({"name": "a\nb"}, "printable"),
    ({"retry": 3}, "retry is 3, but must be a Backoff"),
    ({"retry_on": "OSError"}, "retry_on is 'OSError'"),
    ({"give_up_on": (OSError, 3)}, "exception types"),
    ({"acks_late": "no"}, "acks_late is 'no'"),
    ({"keep_result": -1}, "kept for 0 s or longer"),
    ({"timeout": 5, "soft_timeout": 5}, "too late"),
    ({"bind": "yes"}, "bind is 'yes'"),
    ({"lane": "a b"}, "may hold letters"),
]


@pytest.mark.parametrize(("options", "told"), TASK_OPTIONS, ids=[told for _, told in TASK_OPTIONS])
def test_options_of_a_task(jm: JobMaster, options: dict, told: str) -> None:
    def function(ctx: object = None) -> None: ...

    with pytest.raises(ConfigurationError) as error:
        jm.task(**options)(function)
    assert told in str(error.value)
    assert len(jm.registry) == 0


def test_arguments_that_the_task_cannot_take(hello) -> None:
    told = r"hello: missing a required argument: 'name'\. Its parameters are \(name, times=1\)"
    with pytest.raises(TypeError, match=told):
        hello.delay()
    misspelt = r"hello: got an unexpected keyword argument 'nmae'\. Did you mean 'name'\? Its parameters"
    with pytest.raises(TypeError, match=misspelt):
        hello.delay(nmae="x")
    with pytest.raises(TypeError, match="unexpected keyword argument 'nmae'"):
        hello.delay("x", nmae="x")
    with pytest.raises(TypeError, match="too many positional"):
        hello.delay("a", 1, 2)
    with pytest.raises(TypeError, match="missing"):
        hello.job()


def test_arguments_that_cannot_travel(hello) -> None:
    with pytest.raises(SerializationError, match=r"args\[0\]"):
        hello.delay(threading.Lock())
    with pytest.raises(SerializationError, match="name"):
        hello.delay(name={"deep": [object()]})
    with pytest.raises(SerializationError):
        hello.delay("\ud800")


def test_names_that_nobody_registered(jm: JobMaster, hello) -> None:
    with pytest.raises(NotRegistered, match="No task or handler is registered as 'helo'\\. Did you mean 'hello'"):
        jm.send("helo", name="x")
    with pytest.raises(NotRegistered, match="neither a task nor a registered handler"):
        jm.scheduler.once_now(dict)  # type: ignore[arg-type]


def test_one_name_is_one_function(jm: JobMaster, hello) -> None:
    with pytest.raises(ConfigurationError, match="The task name 'hello' is taken by"):

        @jm.task(name="hello")
        def other() -> None: ...


def test_decorators_on_the_wrong_thing(jm: JobMaster, hello) -> None:
    with pytest.raises(ConfigurationError, match="is a task already"):
        jm.task(hello)
    with pytest.raises(ConfigurationError, match="with parentheses"):
        jm.every(hello)
    with pytest.raises(ConfigurationError, match="with parentheses"):
        jm.every(test_decorators_on_the_wrong_thing)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"no function.*@jm\.handler"):
        jm.task(dict)
    with pytest.raises(ConfigurationError, match=r"no handle\(self, job\)"):
        jm.handler("x")(dict)  # type: ignore[type-var]
    with pytest.raises(ConfigurationError, match="cannot be called with a job"):

        @jm.handler("x")
        class Wrong:
            def handle(self) -> None: ...


def test_data_by_position_to_a_handler(jm: JobMaster) -> None:
    @jm.handler("H")
    class H:
        def handle(self, job: JobContext) -> None: ...

    with pytest.raises(ConfigurationError, match="takes data by name only"):
        jm.send("H", 3)
    with pytest.raises(SerializationError, match="msg_data"):
        jm.scheduler.once_now(H, {"x": object()})
    assert MessageData({"a": 1}).get_int("a") == 1


APPS: list[tuple[Callable[[Path], object], str]] = [
    (lambda _: JobMaster("a b"), "cluster id 'a b'"),
    (lambda _: JobMaster("x", materr="sqlite:///x.db"), "materr"),
    (lambda _: JobMaster("x", master="oracle://h/d"), "oracle"),
    (lambda _: JobMaster("x", master="sqlite://"), "memory"),
    (lambda _: JobMaster("x", lease="soon"), "lease is 'soon'"),
    (lambda _: JobMaster("x", workers=[Worker(agent="pg-1")]), "pg-1"),
    (lambda _: JobMaster("x", agents=[Agent("pg 1", "sqlite:///x.db")]), "agent name 'pg 1'"),
    (lambda _: JobMaster("x", buckets={Priority.MEDIUM: 0}), "medium"),
]


@pytest.mark.parametrize(("make", "told"), APPS, ids=[told for _, told in APPS])
def test_settings_that_cannot_work_fail_where_the_app_is_made(make, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        make(tmp_path)
    assert told in str(error.value)


def database_without_rights(folder: Path) -> str:
    (folder / "locked").mkdir(mode=0o500)
    return f"sqlite:///{folder}/missing/x.db"


def no_database(folder: Path) -> str:
    (folder / "text.db").write_text("not a database, and long enough to be looked at " * 30, encoding="utf-8")
    return f"sqlite:///{folder}/text.db"


def newer_schema(folder: Path) -> str:
    app = JobMaster("bad", master=f"sqlite:///{folder}/newer.db")
    app.jobs.count()
    app.close()
    with sqlite3.connect(folder / "newer.db") as database:
        database.execute("UPDATE jm_schema SET version_num = '9999', oldest_code = '9999'")
    database.close()
    return f"sqlite:///{folder}/newer.db"


@pytest.mark.parametrize("place", [database_without_rights, no_database, newer_schema])
def test_a_database_that_cannot_be_used_is_told_at_the_first_call(place, tmp_path: Path) -> None:
    app = JobMaster("bad", master=place(tmp_path))

    @app.task
    def hello() -> None: ...

    with pytest.raises(JobMasterError) as first:
        hello.delay()
    with pytest.raises(JobMasterError) as second:
        app.start()
    assert str(first.value) == str(second.value)
    assert str(tmp_path) in str(first.value)
    app.close()
