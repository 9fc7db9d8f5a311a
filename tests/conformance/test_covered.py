"""No verb of any port was forgotten: each has a success, a conflict, a repetition and a race."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import tests.conformance as suite
from jobmaster.ports.agent import Agent
from jobmaster.ports.master import MasterStore
from jobmaster.ports.query import QueryStore
from jobmaster.ports.schedules import ScheduleStore
from jobmaster.ports.store import Store
from tests.conformance.cases import COVERED, KINDS

PORTS = (MasterStore, ScheduleStore, Agent, QueryStore, Store)
MEMBERS = {name: member for port in PORTS for name, member in vars(port).items() if not name.startswith("_")}
VERBS = sorted(name for name, member in MEMBERS.items() if inspect.isfunction(member))


@pytest.fixture(scope="module", autouse=True)
def all_cases() -> None:
    for module in pkgutil.iter_modules(suite.__path__):
        importlib.import_module(f"{suite.__name__}.{module.name}")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_case_of_every_kind(verb: str) -> None:
    missing = [kind for kind in KINDS if (verb, kind) not in COVERED]
    assert not missing, f"{verb}: no case for {', '.join(missing)}"


def test_no_case_is_about_a_verb_that_does_not_exist() -> None:
    assert {verb for verb, _ in COVERED} <= set(VERBS)
