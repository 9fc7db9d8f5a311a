"""Agents, workers and back-offs as an app declares them."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import msgspec
import pytest

from jobmaster.errors import ConfigurationError
from jobmaster.model.backoff import Backoff
from jobmaster.model.states import Priority, WorkerMode
from jobmaster.settings.declarations import Agent, Worker


def test_an_agent_shows_no_password() -> None:
    agent = Agent("pg-1", "postgresql://u:hunter2@h/d")

    assert repr(agent) == "Agent('pg-1', 'postgresql://u:***@h/d')"
    assert agent.dsn.password == "hunter2"


@pytest.mark.parametrize("value", [Agent("a", "nats://h"), Worker(), Backoff()])
def test_declarations_cannot_be_changed(value: object) -> None:
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, None)
    assert not hasattr(value, "__dict__")


def test_a_worker_can_be_changed_into_another_one_for_a_run() -> None:
    declared = Worker("a", "mail", buckets={Priority.LOW: 0}, parallelism=2.0)

    changed = dataclasses.replace(declared, lanes=("", "bulk"), concurrency=4, parallelism=1.0)

    assert (changed.agent, changed.lanes, changed.slots) == ("a", ("", "bulk"), 4)
    assert changed.buckets == {Priority.LOW: 0}


def test_an_agent_with_an_impossible_address_is_named_in_the_error() -> None:
    with pytest.raises(ConfigurationError, match="the address of agent 'x' 'redis://h'"):
        Agent("x", "redis://h")


def test_a_worker_without_arguments_is_a_full_one_with_twenty_slots() -> None:
    worker = Worker()

    assert (worker.agent, worker.lanes, worker.name, worker.mode) == (None, (), None, WorkerMode.FULL)
    assert (worker.slots, worker.buckets) == (20, {})


@pytest.mark.parametrize(("parallelism", "slots"), [(1, 20), (2.5, 50), (0.01, 1), (500, 10_000)])
def test_parallelism_multiplies_the_slots(parallelism: float, slots: int) -> None:
    assert Worker(parallelism=parallelism).slots == slots


def test_concurrency_says_the_slots_directly() -> None:
    assert Worker(concurrency=7).slots == 7


def test_lanes_are_one_or_several_and_never_twice() -> None:
    assert Worker("a", "mail").lanes == ("mail",)
    assert Worker(lanes=["default", "mail", "bulk", "mail"]).lanes == ("", "mail", "bulk")


def test_modes_and_priorities_may_be_written_as_words() -> None:
    worker = Worker(mode="drain", buckets={"very_low": 0, "HIGH": 3})

    assert worker.mode is WorkerMode.DRAIN
    assert worker.buckets == {Priority.VERY_LOW: 0, Priority.HIGH: 3}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"lane": "a", "lanes": ["b"]}, ["both lane= and lanes="]),
        ({"lanes": "mail"}, ["lanes is a list", "lane='mail'"]),
        ({"lane": "x" * 26}, ["at most 25"]),
        ({"mode": "turbo"}, ["'turbo'", "full, execution, drain, coordinator"]),
        ({"mode": 1}, ["must be one of full"]),
        ({"parallelism": 0}, ["above 0"]),
        ({"parallelism": -1.0}, ["above 0"]),
        ({"parallelism": float("nan")}, ["above 0"]),
        ({"parallelism": True}, ["above 0"]),
        ({"parallelism": "2"}, ["above 0"]),
        ({"parallelism": 500.5}, ["at most 500"]),
        ({"concurrency": 0}, ["1 to 10000"]),
        ({"concurrency": 2.5}, ["1 to 10000"]),
        ({"concurrency": 4, "parallelism": 2}, ["both concurrency= and parallelism="]),
        ({"buckets": {Priority.MEDIUM: 0}}, ["medium cannot be switched off", "at least 1"]),
        ({"buckets": {"urgent": 1}}, ["'urgent'", "very_low, low, medium, high, critical"]),
        ({"buckets": {Priority.LOW: -1}}, ["low is -1", "0 (the priority is off) to 64"]),
        ({"buckets": {Priority.LOW: 65}}, ["to 64"]),
        ({"buckets": {Priority.LOW: True}}, ["to 64"]),
        ({"buckets": [1]}, ["a number per priority"]),
        ({"agent": "a b"}, ["agent name 'a b'"]),
        ({"name": "a b"}, ["worker name 'a b'"]),
        ({"mode": "coordinator", "lane": "mail"}, ["coordinator runs no jobs", "lanes"]),
        ({"mode": "coordinator", "agent": "a", "concurrency": 3}, ["agent and concurrency"]),
    ],
)
def test_a_worker_that_cannot_work_is_refused(arguments: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Worker(**arguments)  # type: ignore[arg-type]
    for part in parts:
        assert part in str(caught.value)


def test_a_backoff_keeps_seconds_however_they_were_given() -> None:
    backoff = Backoff(base=timedelta(milliseconds=1500), cap=timedelta(hours=2))

    assert (backoff.base, backoff.factor, backoff.cap, backoff.jitter) == (1.5, 2.0, 7200.0, True)
    assert Backoff() == Backoff(5, 2, 3600, True)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"base": -1}, "at least 0 s"),
        ({"base": float("nan")}, "is not finite"),
        ({"base": 10**5000}, "is not finite"),
        ({"base": timedelta(days=366)}, "at most 365 days"),
        ({"base": "5"}, "a number of seconds or a timedelta"),
        ({"base": True}, "a number of seconds or a timedelta"),
        ({"factor": 0.5}, "1 (constant wait) to 100"),
        ({"factor": float("inf")}, "1 (constant wait) to 100"),
        ({"factor": "2"}, "is a number"),
        ({"jitter": "full"}, "True or False"),
        ({"base": 20, "cap": 10}, "cap (10s) is shorter than base (20s)"),
    ],
)
def test_a_backoff_that_cannot_work_is_refused(arguments: dict[str, object], part: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Backoff(**arguments)  # type: ignore[arg-type]
    assert part in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [Agent("a", "nats://h"), Worker("a", "mail", buckets={Priority.LOW: 0}, mode="execution"), Backoff(1, 3, 9, False)],
)
def test_declarations_travel_as_json(value: object) -> None:
    assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value
