"""What an app expects of an acceptance, and a store that promises less (`survives=`)."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from jobmaster import JobMaster
from jobmaster.cli.banner import warn_of_promises
from jobmaster.cli.output import survival
from jobmaster.findings import Found
from jobmaster.runtime import start_up
from jobmaster.supervising import Promise
from tests.unit.faulty_store import FaultyStore, connections

pytestmark = pytest.mark.backend("memory")

WEAK = Promise(store="pg-1", survives="process", evidence="synchronous_commit is off")
UNKNOWN = Promise(store="nats-1", survives="unknown", evidence="the server does not say its sync_interval")
STRONG = Promise(store="master", survives="host", evidence="synchronous=FULL")


def app(tmp_path: Path, survives: str) -> JobMaster:
    return JobMaster("promises", master=f"sqlite:///{tmp_path}/never-opened.db", survives=survives)


@pytest.mark.parametrize(
    ("survives", "told", "silent"),
    [("host", ["pg-1", "synchronous_commit is off", 'survives="process"', "nats-1"], []), ("process", [], ["pg-1"])],
)
def test_the_command_names_stores_that_promise_less_than_the_app_asks_for(
    tmp_path: Path, survives: str, told: list[str], silent: list[str]
) -> None:
    warnings: list[str] = []
    found = Found(settings=app(tmp_path, survives).settings, plans=[], tasks=[])

    warn_of_promises(found, [STRONG, WEAK, UNKNOWN], warnings.append)

    written = "\n".join(warnings)
    assert [part for part in told if part not in written] == []
    assert [part for part in [*silent, "master"] if part in written] == []


@pytest.mark.parametrize(("survives", "warnings"), [("host", 1), ("process", 0)])
def test_a_worker_inside_a_program_logs_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, survives: str, warnings: int
) -> None:
    jm = app(tmp_path, survives)
    with caplog.at_level(logging.WARNING, "jobmaster"):
        asyncio.run(start_up(jm, connections(FaultyStore())))

    assert sum("weak_durability survives=nothing expected=host" in line for line in caplog.messages) == warnings


@pytest.mark.parametrize(
    ("survives", "words"),
    [
        ("host", "survives the end of the host"),
        ("process", "survives the end of the process"),
        ("nothing", "may be lost when the server crashes"),
        ("unknown", "survives what is not known yet"),
    ],
)
def test_what_an_accepted_job_survives_is_said_in_words(survives: str, words: str) -> None:
    assert survival(survives) == words
