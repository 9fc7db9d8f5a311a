"""The guides are true: what they show is run, as a reader would, from the first block to the last."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click
import pytest

from jobmaster.cli.program import COMMANDS, program
from jobmaster.options import CallOptions, TaskOptions
from jobmaster.settings.values import RULES
from tests.unit.guide_runner import BIN, ROOT, Reader, blocks_of, pattern_of

PAGES = (
    "README.md", "docs/getting-started.md", "docs/guide/scheduling.md", "docs/guide/schedules.md",
    "docs/guide/transactions.md",
    "docs/architecture.md", "docs/index.md",
)  # fmt: skip
ALL_PAGES = sorted(str(page.relative_to(ROOT)) for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
README = ROOT / "README.md"
DEMO = "counts the words of text files"
PROVEN_ELSEWHERE = (
    "make demo",  # tests/journeys/test_demo.py
    "make demo ARGS=--once",
    "make test",  # this
    ". .venv/bin/activate",  # the reader's PATH begins with it
)


@pytest.mark.backend("sqlite")
@pytest.mark.parametrize("page", PAGES)
def test_a_page_can_be_followed(page: str, tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()

    with Reader(folder, proven_elsewhere=PROVEN_ELSEWHERE) as reader:
        blocks = blocks_of(ROOT / page)
        for block in blocks:
            # Diagrams: tests/unit/test_docs_diagrams.py. The demo's output: below.
            if block.kind != "mermaid" and DEMO not in block.text:
                reader.follow(block)
    code = "\n".join([*reader.typed, *(block.text for block in blocks if block.kind == "python")])
    unused = [name for name in reader.written if not re.search(rf"(?<!\w)(?:python|-A|from) {name}\b", code)]
    assert unused == [], "files that nothing runs"


@pytest.mark.backend("sqlite")
def test_the_demo_prints_what_the_readme_shows() -> None:
    demo = [str(BIN / "jobmaster"), "demo", "--once"]
    printed = subprocess.run(demo, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    shown = next(block.text for block in blocks_of(README) if DEMO in block.text)
    # Without a terminal there are lines instead of a table that is drawn anew.
    printed = re.sub(r"(?:   ?[\d.]+ s  waiting .*\n)+\n", "", printed)
    # Somebody may edit a file while its words are counted.
    printed = re.sub(r" \(\d+ changed meanwhile, and are left out\)", "", printed)
    printed = re.sub(r"\.venv-[\d.]+/", ".venv/", printed)  # that of `make test-all`
    printed = re.sub(r"(?m)^ +[~^]+\n", "", printed)  # newer versions of Python mark more places in tracebacks
    shown = re.sub(r"(?m)^(  top  ).*$", r"\1…", shown)  # the words are this project's of today

    assert re.match(pattern_of(shown, any_numbers=True), printed), printed


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    heads = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", ALL_PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    missing = []
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]+))?\)", text):
        place = (ROOT / page).parent / target if target else ROOT / page
        if not place.exists() or (anchor and anchor not in anchors_of(place)):
            missing.append(f"{target}#{anchor}")

    assert missing == []


@pytest.mark.parametrize("page", ALL_PAGES)
def test_commands_in_running_text_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"\bjobmaster ([a-z]+)(?: ([a-z]+))?", "\n".join(re.findall(r"`([^`\n]+)`", text))))
    for name, inner in named:
        command = program.get_command(click.Context(program), name)
        if isinstance(command, click.Group) and inner:
            assert inner in command.commands, f"jobmaster {name} {inner}"
    targets = set(re.findall(r"`make ([a-z-]+)", text))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    assert {name for name, _ in named} <= set(COMMANDS)
    assert {target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()


def first_cells(page: str, heading: str) -> set[str]:
    """The code words in the first column of the table that follows `heading`."""
    text = (ROOT / page).read_text(encoding="utf-8").split(heading, 1)[1]
    table = text[text.index("\n|") :].split("\n\n", 1)[0]
    return {word for row in table.strip().splitlines()[2:] for word in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_the_options_of_jobs_and_tasks_are_those_of_the_code() -> None:
    page = "docs/guide/scheduling.md"
    of_calls = first_cells(page, "## Options of a job")
    of_tasks = first_cells(page, "are the defaults of its jobs")
    both = {"lane", "priority", "max_retries", "timeout", "soft_timeout", "metadata", "durability"}

    assert of_calls == set(CallOptions.__annotations__)
    assert of_tasks | both == {*TaskOptions.__annotations__, "bind"}


def test_the_options_of_workers_are_those_of_the_command() -> None:
    named = first_cells("docs/getting-started.md", "## 7. Workers")
    command = program.get_command(None, "worker")
    known = {spelled for parameter in command.params for spelled in parameter.opts}

    assert {word.split()[0] for word in named} <= known


def test_the_settings_that_are_named_exist() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for names in re.findall(r"\(settings? ((?:`\w+`(?:, | and )?)+)\)", text):
            assert set(re.findall(r"`(\w+)`", names)) <= set(RULES)
