"""Fault tests: real processes, real signals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.places import PostgresPlace, SqlitePlace
from tests.faults.real_cluster import RealCluster


@pytest.fixture(params=["sqlite", "postgresql"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealCluster]:
    on_a_server = request.param == "postgresql"
    place = PostgresPlace(request.getfixturevalue("postgres_database")) if on_a_server else SqlitePlace(tmp_path)
    cluster = RealCluster(tmp_path, place)
    try:
        cluster.provision()
        yield cluster
    finally:
        cluster.close()
