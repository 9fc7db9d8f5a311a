"""`jobmaster db` in the middle of an upgrade: what it says and does, and what it refuses."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from jobmaster.stores.sql import provision
from tests.cli.terminal import Terminal
from tests.faults import next_release


@pytest.fixture
def shop(terminal: Terminal) -> Terminal:
    """A project whose database is of this release, with a worker that lives; its commands are of the next release."""
    provision.upgrade(f"sqlite:///{terminal.folder}/jobmaster.db")
    change(
        terminal,
        "INSERT INTO jm_worker (name, boot, lanes, mode, pid, slots, version, schema_version, started_us, renewed_us, "
        f"lease_until_us, stats, demands) VALUES ('old', 1, '[]', 1, 1, 1, '0.1.0', '0002', 1, 1, {2**62}, '', '[]')",
    )
    terminal.environment["PYTHONPATH"] = str(next_release.FOLDER)
    return terminal


def change(terminal: Terminal, statement: str) -> None:
    with closing(sqlite3.connect(terminal.folder / "jobmaster.db", isolation_level=None)) as connection:
        connection.execute(statement)


def db(shop: Terminal, *arguments: str, code: int = 0) -> str:
    done = shop.run("-A", "shop", "db", *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_from_one_release_to_the_next(shop: Terminal) -> None:
    said = db(shop, "status")
    for part in (
        "older than this JobMaster, which works with it, too",
        "would run  0003 Notes: a column, a table and wider texts\n",
        "would run  0005 Definitions lose their source",
        "takes away what code of schemas before 0003 needs; waits for the end of old",
        "next  jobmaster db upgrade --expand",
        "old     0.1.0    0002",
    ):
        assert part in said

    said = db(shop, "upgrade", "--expand")
    assert "has schema 0004 now (before: 0002)" in said
    assert "Left for when no older version runs any more: 0005 Definitions lose their source" in said
    assert "Producers are listed nowhere" in said

    said = db(shop, "upgrade", code=1)
    assert "not changed to schema 0005" in said
    assert "1 such workers live: old (0.1.0)" in said

    status = json.loads(db(shop, "status", "--json"))
    assert (status["found"], status["current"], status["works"], status["agents"]) == ("0004", False, True, {})
    assert status["workers"] == [{"name": "old", "version": "0.1.0", "schema": "0002"}]
    assert [(step["version"], step["contracts"], step["waits_for"]) for step in status["pending"]] == [
        ("0005", True, ["old"])
    ]
    assert status["next"] == "replace the older workers, then: jobmaster db upgrade"

    assert "has schema 0005 now (before: 0004)" in db(shop, "upgrade", "--force")
    del shop.environment["PYTHONPATH"]
    said = db(shop, "status", code=1)
    assert "too new: it has lost what this JobMaster needs" in said
    assert "install the newer JobMaster" in said
    assert "install the newer JobMaster" in db(shop, "upgrade", code=1)


def test_flags_that_contradict_each_other(terminal: Terminal) -> None:
    assert "contradict each other" in db(terminal, "upgrade", "--expand", "--force", code=2)


def test_the_statements_since_a_version_lead_to_the_same_schema(shop: Terminal) -> None:
    text = db(shop, "sql", "--from", "0002")
    assert "CREATE TABLE jm_note" in text
    assert "CREATE TABLE jm_job" not in text
    with closing(sqlite3.connect(shop.folder / "jobmaster.db")) as connection:
        connection.executescript(text)
        assert connection.execute("SELECT version_num, oldest_code FROM jm_schema").fetchall() == [("0005", "0003")]
    assert json.loads(db(shop, "status", "--json"))["current"] is True
    assert "no schema version '0007'" in db(shop, "sql", "--from", "0007", code=1)


def test_agents_that_are_databases_are_looked_at_and_upgraded_with_the_master(terminal: Terminal) -> None:
    app = (
        "from jobmaster import Agent, JobMaster\njm = JobMaster('shop', agents=[Agent('near', 'sqlite:///near.db')])\n"
    )
    terminal.write("shop.py", app)
    said = db(terminal, "status", code=1)
    assert said.count("no JobMaster tables yet") == 2
    assert "agent near" in said
    db(terminal, "upgrade")
    status = json.loads(db(terminal, "status", "--json"))
    assert (status["current"], status["agents"]["near"]["current"]) == (True, True)
    assert provision.status(f"sqlite:///{terminal.folder}/near.db").is_current
