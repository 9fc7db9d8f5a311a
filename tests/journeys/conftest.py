"""Apps of journeys on a file, and journeys on either kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobmaster import JobMaster


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


def make_app(folder: Path) -> JobMaster:
    return JobMaster(
        "journey",
        master=f"sqlite:///{folder}/journey.db",
        time_zone="Europe/Berlin",
        accept_timeout=30,  # a busy machine is no outage
    )


@pytest.fixture
def jm(tmp_path: Path) -> Iterator[JobMaster]:
    """An app on an SQLite file, where a module has no other."""
    app = make_app(tmp_path)
    yield app
    app.close()
