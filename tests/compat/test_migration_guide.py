"""docs/migration.md is true: its project runs as written, and its lists are the code's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobmaster import compat
from jobmaster.compat import call_options, conf, result, task_options
from tests.journeys.programs import program

GUIDE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", GUIDE, re.DOTALL)
FILES = {match[1]: code for kind, code in BLOCKS if kind == "python" and (match := re.match(r"# (\w+\.py)\n", code))}
SNIPPETS = [code for kind, code in BLOCKS if kind == "python" and not re.match(r"# \w+\.py\n", code)]
COMMANDS = [code.split("#")[0].split() for kind, code in BLOCKS if kind == "sh"]
OUTPUTS = [code for kind, code in BLOCKS if kind == "text"]


@pytest.mark.backend("sqlite")
def test_the_small_project_runs_as_written(tmp_path: Path) -> None:
    for name, code in FILES.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    log = tmp_path / "worker.log"
    [command], [output] = COMMANDS, OUTPUTS

    with program(*command, folder=tmp_path, log=log) as worker:
        done = subprocess.run(
            [sys.executable, "client.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )

    assert done.stdout == output, done.stderr + log.read_text(encoding="utf-8")
    assert worker.returncode == 0, log.read_text(encoding="utf-8")
    assert (tmp_path / "tasks.db").exists()
    assert "tasks.fetch" in log.read_text(encoding="utf-8")


def test_the_jobs_of_the_project_can_be_listed(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(FILES["tasks.py"], encoding="utf-8")
    send = [sys.executable, "-c", "from tasks import add; add.delay(1, 2)"]
    subprocess.run(send, cwd=tmp_path, check=True, timeout=60)

    log = tmp_path / "list.log"
    with program("jobmaster", "jobs", "list", "-A", "tasks", folder=tmp_path, log=log) as command:
        code = command.wait(timeout=60)

    assert code == 0, log.read_text(encoding="utf-8")
    assert "tasks.add" in log.read_text(encoding="utf-8")


@pytest.mark.parametrize("code", SNIPPETS)
def test_every_other_block_runs(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr


def listed(head: str) -> set[str]:
    """The names in the paragraph that begins with `head`."""
    paragraph = GUIDE.split(f"\n{head}", 1)[1].split("\n\n", 1)[0]
    return set(re.findall(r"`(\w+)", paragraph))


def test_the_lists_of_options_and_settings_are_those_of_the_code() -> None:
    assert listed("Options of a task:") == {*task_options._KNOWN, "bind"}
    assert listed("Options of a call:") == set(call_options._READ)
    assert listed("Settings:") == set(conf.SUPPORTED)


def test_what_is_refused_or_has_no_effect_is_what_the_code_says() -> None:
    refused = {*task_options.REFUSED, *call_options.REFUSED} - {"abstract", "group_id", "ignore_result", "pydantic"}
    told = listed("Refused, because")
    without_effect = task_options.NO_EFFECT | call_options.NO_EFFECT

    assert refused <= told
    assert {name for name in told if name not in refused} <= without_effect | {"serializer", "json"}


def test_members_of_results_are_those_that_exist() -> None:
    row = next(line for line in GUIDE.splitlines() if line.startswith("| `AsyncResult`"))
    names = set(re.findall(r"`(\w+)", row.split("|")[2]))

    assert names <= set(dir(result.AsyncResult)) | {"id"}


@pytest.mark.parametrize("name", ["shared_task", "chain", "group", "chord", "signature"])
def test_what_is_said_to_be_missing_is_missing(name: str) -> None:
    assert name in GUIDE.split("## What is not there yet", 1)[1]
    assert not hasattr(compat, name)
