"""Journeys on either kind of database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def usual_master(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str | None]:
    """Where apps that name no master find it: None for a file in their folder, or an empty database on a server."""
    if request.param == "sqlite":
        yield None
        return
    databases = request.getfixturevalue("postgres_databases")
    dsn = databases.blank()
    monkeypatch.setenv("JOBMASTER_MASTER", dsn)
    yield dsn
    databases.remove(dsn)
