"""These tests know a rule of their own, and run on stores that have schedules themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobmaster.schedules import register_provider
from tests.engine.conftest import StoreToOpen
from tests.engine.planning.quick_schedules import Quick


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StoreToOpen:
    """Those that have schedules themselves: a master with separate agents hands their verbs on."""
    on_a_server = request.param == "postgresql"
    return StoreToOpen(request.param, tmp_path, [request.getfixturevalue("postgres_database")] if on_a_server else [])


@pytest.fixture(autouse=True, scope="module")
def _quick_rules() -> None:
    register_provider("Quick", Quick)
