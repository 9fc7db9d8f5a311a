"""Cases are coroutines that get a running `cluster`; each runs against every adapter."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

import pytest

from tests.conformance.adapters import ADAPTERS
from tests.conformance.cluster import Cluster


@pytest.fixture(params=list(ADAPTERS))
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Cluster:
    return made(request, tmp_path, gated=False)


def made(request: pytest.FixtureRequest, folder: Path, *, gated: bool = True) -> Cluster:
    """The cluster of a fixture that has adapters' names as parameters; skips where its server cannot be had.

    Args:
        gated: its cases hold commits.
    """
    adapter = ADAPTERS[request.param]
    if adapter.needs:
        request.getfixturevalue(adapter.needs)
    return Cluster(adapter, folder, gated=gated)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a case inside its cluster."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    cluster = arguments.pop("cluster")
    asyncio.run(cluster.carry_out(pyfuncitem.obj, **arguments))
    return True
