"""Every guard is worth something: without it, the named case of this suite fails."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path

import pytest

from jobmaster.errors import JobMasterError
from jobmaster.stores.memory import MemoryAgent, MemoryMaster, MemoryStore
from jobmaster.stores.memory.variants import GUARDS, without
from tests.conformance.adapters import ADAPTERS
from tests.conformance.cluster import Cluster
from tests.conformance.mutants import Mutant
from tests.conformance.mutants_memory import MEMORY, VARIANTS
from tests.conformance.mutants_postgresql_agent import POSTGRESQL_AGENT
from tests.conformance.mutants_postgresql_jobs import POSTGRESQL_JOBS
from tests.conformance.mutants_postgresql_leases import POSTGRESQL_LEASES
from tests.conformance.mutants_schedules import SCHEDULES
from tests.conformance.mutants_sqlite_agent import SQLITE_AGENT
from tests.conformance.mutants_sqlite_jobs import SQLITE_JOBS
from tests.conformance.mutants_sqlite_leases import SQLITE_LEASES
from tests.conformance.mutants_turns import TURNS

NOTICED = (AssertionError, JobMasterError, ValueError, pytest.fail.Exception)
"""How a case fails: it sees something else than it expects. Anything else is a broken mutant."""

CASES = [
    pytest.param(mutant, adapter, id=f"{adapter}-{mutant.guard}-{mutant.noticed_by.split('.')[1]}")
    for mutant in [
        *MEMORY,
        *SQLITE_AGENT,
        *SQLITE_JOBS,
        *SQLITE_LEASES,
        *POSTGRESQL_AGENT,
        *POSTGRESQL_JOBS,
        *POSTGRESQL_LEASES,
        *SCHEDULES,
        *TURNS,
    ]
    for adapter in mutant.adapters
]


@pytest.mark.parametrize(("mutant", "adapter"), CASES)
def test_without_a_guard_its_case_fails(
    mutant: Mutant, adapter: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if server := ADAPTERS[adapter].needs:
        request.getfixturevalue(server)
    module, name = mutant.noticed_by.split(".")
    case = getattr(importlib.import_module(f"tests.conformance.{module}"), name)
    cluster = Cluster(ADAPTERS[adapter], tmp_path, removed=mutant.removed)
    with mutant.in_force(), pytest.raises(NOTICED):
        asyncio.run(cluster.carry_out(case, **mutant.arguments))


def test_every_guard_that_a_memory_store_can_lose_has_a_mutant() -> None:
    assert {mutant.guard for mutant in VARIANTS} == set(GUARDS)


def test_an_unknown_guard_is_an_error_and_no_guard_changes_nothing() -> None:
    with pytest.raises(KeyError):
        without(MemoryStore, ["no_such_guard"])
    for kind in (MemoryStore, MemoryMaster, MemoryAgent):
        assert without(kind, []) is kind
