"""Fault tests: real processes, real signals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.real_cluster import RealCluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RealCluster]:
    cluster = RealCluster(tmp_path)
    try:
        cluster.provision()
        yield cluster
    finally:
        cluster.close()
