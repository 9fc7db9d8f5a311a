"""What a program pays for importing JobMaster, in time and in modules."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

BUDGET_MS = 80
EVERY_NAME_BUDGET_MS = 160  # asyncio and msgspec are in it; SQLAlchemy alone would add 450
HELP_BUDGET_MS = 200
RUNS = 7

# Each is needed by some part of the product, and by none that every producer and worker runs.
HEAVY = ("alembic", "click", "croniter", "flask", "jinja2", "kombu", "lark", "rich", "sqlalchemy", "werkzeug")

PROBE = """
import sys, time
wall, cpu = time.perf_counter(), time.process_time()
{statement}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
import json
print(json.dumps([wall * 1000, cpu * 1000, sorted(sys.modules)]))
"""

PACKAGE = "import jobmaster"
EVERY_NAME = "import jobmaster\nfor name in jobmaster.__all__: getattr(jobmaster, name)"


def run(statement: str) -> tuple[float, float, set[str]]:
    """Run a statement in a new interpreter: wall and processor time in milliseconds, and the modules imported then."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(statement=statement)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    wall, cpu, modules = json.loads(done.stdout)
    return wall, cpu, set(modules)


def within(budget: float, times: list[tuple[float, float]]) -> None:
    """A busy machine must not decide: the median in processor time, and the fastest by the clock.

    The clock is read as if the machine had been idle: a bare interpreter, which waits for nothing, says how much longer
    than its processor time it lasts here.
    """
    assert statistics.median(cpu for _, cpu in times) < budget, times
    lasted = [_timed([sys.executable, "-S", "-c", "sum(range(3_000_000))"]) for _ in range(RUNS)]
    longer = max(1.0, statistics.median(wall / cpu for wall, cpu in lasted))
    assert min(wall for wall, _ in times) < budget * longer, (times, longer)


@pytest.mark.alone
def test_importing_the_package_stays_within_its_budget() -> None:
    run(PACKAGE)  # the first one may have to compile
    within(BUDGET_MS, [run(PACKAGE)[:2] for _ in range(RUNS)])


@pytest.mark.alone
def test_using_every_public_name_stays_within_its_budget() -> None:
    """In processor time: this is many times the work of the bare import, and a busy machine must not decide it."""
    run(EVERY_NAME)
    times = [run(EVERY_NAME)[1] for _ in range(RUNS)]

    assert statistics.median(times) < EVERY_NAME_BUDGET_MS, times


@pytest.mark.parametrize("statement", [PACKAGE, EVERY_NAME], ids=["package", "every-name"])
def test_no_heavy_library_is_imported(statement: str) -> None:
    _, _, modules = run(statement)

    assert modules.isdisjoint(HEAVY), sorted(modules.intersection(HEAVY))


def test_the_bare_import_does_not_even_load_asyncio() -> None:
    _, _, modules = run(PACKAGE)

    assert "asyncio" not in modules


@pytest.mark.alone
def test_the_command_line_explains_itself_within_200_ms() -> None:
    command = [str(Path(sys.executable).with_name("jobmaster")), "--help"]
    times = [_timed(command) for _ in range(RUNS)]

    within(HELP_BUDGET_MS, times)


def _timed(command: list[str]) -> tuple[float, float]:
    """Wall and processor time of a program in milliseconds."""
    started, cpu = time.perf_counter(), _cpu_of_children()
    subprocess.run(command, capture_output=True, check=True, timeout=60)
    return (time.perf_counter() - started) * 1000, (_cpu_of_children() - cpu) * 1000


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
