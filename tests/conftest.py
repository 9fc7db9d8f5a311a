"""What every test run shares: the matrix of stores that the suite ran against, printed at its end.

A test belongs to a store by `@pytest.mark.backend("sqlite")`, on itself or on a `pytest.param`, or by a parameter whose
id is a store's name (`test_x[sqlite]`, `test_x[sqlite-batched]`). With CI=true, a whole run fails when a store named in
`required_backends` (pyproject.toml) did not run a single test or skipped one.

Servers come from `tests/servers`; JOBMASTER_TEST_POSTGRES names a PostgreSQL to use instead of one of our own.

With `-n 2` (`make test`; pytest-xdist) processes of their own run the tests, each with servers of its own, and this
module is loaded in each of them. What they have to say for the matrix travels in their reports and in their last word.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

# Before pytest_configure: it reads JOBMASTER_TEST_POSTGRES.
from tests.servers.obtaining import found_postgres
from tests.turns import FOLDER, Host, Turns

if TYPE_CHECKING:
    from collections.abc import Generator

pytest_plugins = ["tests.servers.fixtures", "tests.faults.recording"]

BACKENDS = ("memory", "sqlite", "postgresql", "pgbouncer", "mysql", "mssql", "nats")

_backends_of_test = pytest.StashKey[tuple[str, ...]]()
_matrix = pytest.StashKey["Matrix"]()


class Matrix:
    """Counts of passed, failed and skipped tests by store, and what the server was: of this process and its helpers."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._reasons: dict[str, Counter[str]] = defaultdict(Counter)
        self._servers: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A test ends in its call, or earlier where its set-up failed or skipped; a failing tear-down is a failure, too.
        if report.when == "call" or not report.passed:
            reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
            # None where a helper has died while it ran the test.
            for backend in getattr(report, "backends", ()):
                self.count(backend, report.outcome, reason)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        for backend, server in getattr(node, "workeroutput", {}).get("servers", {}).items():
            self.ran_on(backend, server)

    def count(self, backend: str, outcome: str, reason: str = "") -> None:
        """Add one test's end; `outcome` is passed, failed or skipped."""
        self._counts[backend][outcome] += 1
        if reason:
            self._reasons[backend][reason.removeprefix("Skipped: ")] += 1

    def ran_on(self, backend: str, server: str) -> None:
        """Say which server a store's tests ran against: its version and where it came from."""
        self._servers[backend] = server

    def uncovered(self, required: list[str]) -> list[str]:
        """Name what the required stores lack: one sentence for each that did not run wholly."""
        missing = []
        for backend in required:
            counts = self._counts[backend]
            if not counts["passed"] + counts["failed"]:
                missing.append(f"{backend}: required, and no test ran against it")
            elif counts["skipped"]:
                missing.append(f"{backend}: required, and {counts['skipped']} of its tests were skipped")
        return missing

    def lines(self) -> list[str]:
        """One line per store, in a fixed order, and under it why tests were skipped."""
        rows = []
        for backend in BACKENDS:
            counts = self._counts[backend]
            if not counts:
                rows.append(f"{backend:<12} no tests in this run")
                continue
            told = ", ".join(
                f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped") if counts[outcome]
            )
            server = self._servers.get(backend, "")
            rows.append(f"{backend:<12} {told}{f' ({server})' if server else ''}")
            rows += [f"{'':<12} {count} skipped: {reason}" for reason, count in self._reasons[backend].most_common()]
        return rows


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("required_backends", "stores that must have run under CI=true", type="args", default=[])


def pytest_configure(config: pytest.Config) -> None:
    # Who runs the suite in the background, or by nohup, lets it ignore these, and so would what it starts.
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    # Settings that a developer exported for an application are no part of the suite, nor of the processes it starts;
    # helpers remove them themselves, after they have read which PostgreSQL was given.
    if not _has_helpers(config):
        for name in [name for name in os.environ if name.startswith("JOBMASTER_")]:
            del os.environ[name]
    os.environ.pop("COLUMNS", None)  # 80 in the processes of pytest-xdist: commands would print narrow tables
    # A busy machine is no counter-example; what is found once (CI=true) is found by everybody.
    hypothesis.settings.register_profile("suite", deadline=None, derandomize=os.environ.get("CI") == "true")
    hypothesis.settings.load_profile("suite")
    if _is_helper(config):
        # One letter, not "popen-gw0": sockets lie beside the databases of tests, and the path of a socket is short.
        config.option.basetemp = Path(config.option.basetemp).with_name(config.workerinput["workerid"][2:])
        config.pluginmanager.register(Turns(config.workerinput[FOLDER]))
        return
    config.stash[_matrix] = Matrix()
    config.pluginmanager.register(config.stash[_matrix])
    if _has_helpers(config):
        config.pluginmanager.register(Host())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.stash[_backends_of_test] = backends_of(item)


def backends_of(item: pytest.Item) -> tuple[str, ...]:
    """Name the stores that a test runs against, from its marks or else from its parameters' ids."""
    marked = {mark.args[0] for mark in item.iter_markers("backend")}
    unknown = marked.difference(BACKENDS)
    if unknown:
        raise pytest.UsageError(f"{item.nodeid}: backend {sorted(unknown)} is none of {', '.join(BACKENDS)}")
    if not marked and hasattr(item, "callspec"):
        marked = set(BACKENDS).intersection(item.callspec.id.split("-"))
    return tuple(sorted(marked))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    report.backends = list(item.stash.get(_backends_of_test, ()))  # what it has is sent along
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if _is_helper(session.config):
        session.config.workeroutput["servers"] = _servers()
    elif exitstatus == pytest.ExitCode.OK and _uncovered(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.section("stores")
    matrix = config.stash[_matrix]
    for backend, server in _servers().items():
        matrix.ran_on(backend, server)
    for line in matrix.lines():
        terminalreporter.write_line(line)
    for line in _uncovered(config):
        terminalreporter.write_line(line, red=True)


def _servers() -> dict[str, str]:
    """What the tests of this process ran against, by store."""
    place = found_postgres()
    return {"sqlite": sqlite3.sqlite_version, **({"postgresql": str(place)} if place else {})}


def _has_helpers(config: pytest.Config) -> bool:
    return config.getoption("dist", "no") != "no"


def _is_helper(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _uncovered(config: pytest.Config) -> list[str]:
    whole_run = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    selected = config.option.keyword or config.option.markexpr or config.option.collectonly
    if os.environ.get("CI") != "true" or not whole_run or selected:
        return []
    return config.stash[_matrix].uncovered(config.getini("required_backends"))
