"""What the first engine tells the supervisor: everything that it needs of the app, through one message."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from jobmaster.findings import Answer, Found, Unusable
from jobmaster.model.states import Priority
from jobmaster.worker_order import WorkerOrder
from jobmaster.worker_process import first_engine, look

_numbers = itertools.count()

EVERYTHING = """
from datetime import timedelta
from jobmaster import Agent, Backoff, JobMaster, Priority, Worker
jm = JobMaster(
    "everything", default=True,
    master="postgresql://shop:s3cret@db.example/shop",
    agents=[Agent("pg-1", "postgresql://a:b@c/d"), Agent("n.1", "nats://token@host:4222")],
    workers=[Worker(agent="pg-1", lane="mail", name="mailer", concurrency=3), Worker(mode="coordinator")],
    buckets={Priority.LOW: 0, Priority.HIGH: 2},
    retry=Backoff(base=1, factor=3, cap=9, jitter=False),
    retention=timedelta(days=2), keep_result=timedelta(hours=1), debug_log="logs", grace=3, durability="master",
    time_zone="Europe/Berlin", mode="passive", include=["json"],
)
@jm.task(lane="mail")
async def mail(n: int) -> int: ...
@jm.task(lane="bulk")
def bulk() -> None: ...
"""


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., WorkerOrder]]:
    """Writes a module, and answers an order for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"probed_{next(_numbers)}"

    def make(text: str, **told: object) -> WorkerOrder:
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return WorkerOrder(place=name, folder=str(tmp_path), identity="host.7", **told)  # type: ignore[arg-type]

    yield make
    sys.modules.pop(name, None)


def carried(answer: Answer) -> Answer:
    """As it arrives in the supervisor."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(answer), type=Answer)


def found(answer: Answer) -> Found:
    assert answer.found is not None, answer.unusable
    return answer.found


def unusable(answer: Answer) -> Unusable:
    assert answer.unusable is not None
    return answer.unusable


def test_everything_arrives_as_it_was(order: Callable[..., WorkerOrder], tmp_path: Path) -> None:
    answer = look(order(EVERYTHING))[0]

    told = found(carried(answer))
    assert carried(answer) == answer
    assert told.settings.master.password == "s3cret"
    assert [agent.url for agent in told.settings.agents] == ["postgresql://a:b@c/d", "nats://token@host:4222"]
    assert told.settings.buckets == {Priority.LOW: 0, Priority.HIGH: 2}
    assert [(task.name.partition(".")[2], task.lane, task.is_async) for task in told.tasks] == [
        ("bulk", "bulk", False), ("mail", "mail", True),
    ]  # fmt: skip
    assert [(plan.name, plan.lanes, plan.slots, plan.mode) for plan in told.plans] == [
        ("mailer", ("mail",), 3, "FULL"), ("host.7.2", ("", "bulk", "mail"), 20, "COORDINATOR"),
    ]  # fmt: skip
    assert told.unserved == ["bulk"]
    assert told.files == [str(next(tmp_path.glob("probed_*.py")))]


def test_settings_of_the_command_line_are_above_all_others(
    order: Callable[..., WorkerOrder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBMASTER_GRACE", "9")

    told = found(look(order(EVERYTHING, settings={"grace": 7.5}))[0])

    assert told.settings.grace == 7.5
    assert {plan.grace for plan in told.plans} == {7.5}


def test_an_app_without_tasks_says_where_it_looked(order: Callable[..., WorkerOrder]) -> None:
    text = "from jobmaster import JobMaster\njm = JobMaster('empty', include=['json'])\n"

    told = unusable(carried(look(order(text))[0]))
    coordinator = found(look(order(text, mode="coordinator"))[0])

    assert "0 tasks found in app 'empty'" in told.message
    assert "include: json" in told.message
    assert coordinator.tasks == []  # a coordinator runs none


def test_an_error_of_the_users_code_comes_with_its_traceback(order: Callable[..., WorkerOrder]) -> None:
    told = unusable(carried(look(order("def f():\n    raise KeyError('price')\nf()\n"))[0]))

    assert "KeyError: 'price'" in told.message
    assert "line 2, in f" in told.details


def test_an_error_of_a_task_needs_no_traceback(order: Callable[..., WorkerOrder]) -> None:
    text = "from jobmaster import JobMaster\njm = JobMaster('x')\n@jm.task(timeout=-1)\ndef t(): ...\n"

    told = unusable(carried(look(order(text))[0]))

    assert "timeout" in told.message
    assert told.details == ""


@pytest.mark.parametrize("text", [EVERYTHING, "1 / 0\n"], ids=["good", "broken"])
def test_the_first_engine_answers_and_runs_only_an_app_that_can_be_used(
    order: Callable[..., WorkerOrder], text: str
) -> None:
    told = order(text, settings={"grace": 7.5, "debug_log": None})

    introduced = first_engine(msgspec.msgpack.encode(told))

    answer = msgspec.msgpack.decode(introduced.answer, type=Answer)
    good = text is EVERYTHING
    assert (answer.found is not None, answer.unusable is None) == (good, good)
    assert ((introduced.prepared is not None), introduced.grace) == ((True, 7.5) if good else (False, 0.0))
