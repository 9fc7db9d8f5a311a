"""Which PostgreSQL a run of the suite gets, and what it says about it at its end."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import psycopg
import pytest

from tests.servers import obtaining
from tests.servers.launcher import ServerError, free_port
from tests.servers.obtaining import NoPostgresError, PostgresPlace

ROOT = Path(__file__).parents[2]

USES_IT = """
    import os, pytest

    @pytest.mark.backend("postgresql")
    def test_a(postgres_database):
        assert not [name for name in os.environ if name.startswith("JOBMASTER_")]
"""


def run(folder: Path, address: str, *how: str, ci: bool = False) -> subprocess.CompletedProcess[str]:
    (folder / "test_x.py").write_text(textwrap.dedent(USES_IT), encoding="utf-8")
    (folder / "pytest.ini").write_text(
        "[pytest]\ntestpaths = .\nrequired_backends = postgresql\nmarkers = backend(name): a store\n", encoding="utf-8"
    )
    given = {obtaining.SETTING: address, "CI": "true" if ci else "", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", *how],
        cwd=folder,
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.backend("postgresql")
@pytest.mark.parametrize("how", [[], ["-n", "2"]], ids=["alone", "two"])
def test_an_address_that_was_given_is_used_and_left_as_it_was(
    postgres: PostgresPlace, tmp_path: Path, how: list[str]
) -> None:
    before = names(postgres.address)
    done = run(tmp_path, postgres.address, *how, ci=True)

    assert done.returncode == 0, done.stdout
    assert f"postgresql   1 passed ({postgres.version}, {obtaining.SETTING})" in done.stdout
    assert names(postgres.address) == before


def names(address: str) -> set[str]:
    with psycopg.connect(address) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}


@pytest.mark.parametrize("ci", [False, True])
def test_without_a_server_tests_are_skipped_with_the_reason_and_ci_fails(tmp_path: Path, ci: bool) -> None:
    secret = f"postgresql://ann:secret@127.0.0.1:{free_port()}/x"
    done = run(tmp_path, secret, ci=ci)

    assert done.returncode == int(ci), done.stdout
    assert f"1 skipped: the PostgreSQL of {obtaining.SETTING} does not answer: OperationalError" in done.stdout
    assert ("postgresql: required, and no test ran against it" in done.stdout) is ci
    assert "secret@" not in done.stdout


def test_a_server_of_our_own_comes_before_a_container_and_all_that_was_tried_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def fails(way: str):
        def ask() -> PostgresPlace:
            asked.append(way)
            raise ServerError(f"no {way}")

        return ask

    monkeypatch.setattr(obtaining, "_GIVEN", "")
    monkeypatch.setattr(obtaining, "_own", fails("wheel"))
    monkeypatch.setattr(obtaining, "_container", fails("container"))
    with pytest.raises(NoPostgresError, match="no wheel; no container; or name one in JOBMASTER_TEST_POSTGRES"):
        obtaining.obtain_postgres.__wrapped__()
    assert asked == ["wheel", "container"]


@pytest.mark.backend("postgresql")
def test_the_address_of_another_database_keeps_the_rest_of_the_address() -> None:
    place = PostgresPlace("postgresql://ann:pw@db:5433/first?sslmode=disable", "18.1", "elsewhere")
    assert place.dsn("second") == "postgresql://ann:pw@db:5433/second?sslmode=disable"
