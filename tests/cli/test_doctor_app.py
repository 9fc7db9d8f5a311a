"""The doctor at an app that cannot work as it is: what it says, and that it always says something."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from jobmaster.cli.checks import installation
from jobmaster.cli.checks.app import _has_odbc
from tests.cli.consulting import consult
from tests.cli.terminal import Terminal

CHECK = {"check", "store", "state", "fact", "advice", "details"}


def lines(terminal: Terminal, *, code: int, **environment: str) -> str:
    done = terminal.run("-A", "shop", "doctor", **environment)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_a_module_with_a_syntax_error_shows_where(terminal: Terminal) -> None:
    terminal.write("shop.py", "from jobmaster import JobMaster\njm = JobMaster('shop')\ndef broken(:\n")

    told = lines(terminal, code=1)

    assert "FAIL  app " in told
    assert "SyntaxError" in told
    assert "| " in told
    assert "def broken(:" in told
    assert 'shop.py", line 3' in told
    assert "Left out because of that: tasks, settings, stores, cluster, jobs." in told


def test_an_import_that_fails_deep_inside_shows_the_end_of_its_traceback(terminal: Terminal) -> None:
    terminal.write("deep.py", "def f(n):\n    return f(n - 1) if n else {}['price']\n")
    terminal.write("shop.py", "import deep\nfrom jobmaster import JobMaster\njm = JobMaster('shop')\ndeep.f(40)\n")

    told = lines(terminal, code=1)

    assert "KeyError: 'price'" in told
    assert told.count("deep.py") <= 6


@pytest.mark.parametrize(
    ("program", "part"),
    [
        ("import no_such_library", "No module named 'no_such_library'"),
        ("raise SystemExit(3)", "ended the program (exit 3)"),
        ("x = 1", "No JobMaster app was found in shop"),
    ],
)
def test_an_app_that_is_none(terminal: Terminal, program: str, part: str) -> None:
    terminal.write("shop.py", program)

    assert part in lines(terminal, code=1)


def test_an_import_that_never_ends_is_interrupted(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from jobmaster.cli.program import program

    terminal.write("waiting_shop.py", "import time\nprint('I wait')\ntime.sleep(60)\n")
    monkeypatch.chdir(terminal.folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(installation, "IMPORT_WITHIN", 2.0)

    done = CliRunner().invoke(program, ["-A", "waiting_shop", "--json", "doctor"])

    told = json.loads(done.stdout)
    (app,) = [check for check in told["checks"] if check["check"] == "app"]
    assert done.exit_code == 1
    assert "longer than 2 s (at waiting_shop.py, line 3)" in app["fact"]
    assert "when it is imported" in app["advice"]


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({"JOBMASTER_MASTER": "postgresq://shop:hunter2@db/shop"}, "Did you mean postgresql://?"),
        ({"JOBMASTER_MASTER": "postgresql://shop:hunter2@db:54o2/shop"}, "is no port"),
        ({"JOBMASTER_TIME_ZONE": "Mars/Olympus"}, "Mars/Olympus"),
        ({"JOBMASTER_LEASE": "soon"}, "lease"),
    ],
    ids=["scheme", "port", "zone", "lease"],
)
def test_a_setting_that_cannot_be(terminal: Terminal, environment: dict[str, str], part: str) -> None:
    told = lines(terminal, code=1, **environment)

    assert "FAIL  settings " in told
    assert part in told
    assert "hunter2" not in told


def test_a_host_zone_that_does_not_exist(terminal: Terminal) -> None:
    told = lines(terminal, code=0, TZ="Mars/Olympus")
    well = lines(terminal, code=0, TZ="Europe/Berlin")

    assert "warn  host zone      TZ=Mars/Olympus names no zone" in told
    assert "ok    host zone      CE" in well


def test_json_has_the_same_keys_whatever_is_wrong(terminal: Terminal) -> None:
    well = terminal.json("doctor")
    terminal.write("shop.py", "def broken(:\n")
    broken = terminal.json("doctor", code=1)

    for told in (well, broken):
        assert told.keys() == {"ok", "checks", "left_out"}
        assert all(check.keys() == CHECK for check in told["checks"])
        assert {check["state"] for check in told["checks"]} <= {"ok", "warning", "fault"}
    assert (well["ok"], broken["ok"]) == (True, False)
    assert [check["check"] for check in well["checks"]][:3] == ["python", "sqlite", "host zone"]
    assert broken["left_out"] == ["tasks", "settings", "stores", "cluster", "jobs"]


def test_what_modules_print_is_no_part_of_the_answer(terminal: Terminal) -> None:
    terminal.write("shop.py", "print('hello from shop')\n" + (terminal.folder / "shop.py").read_text())

    done = terminal.run("-A", "shop", "--json", "doctor")

    assert json.loads(done.stdout)["ok"] is True
    assert "hello from shop" in done.stderr


class TestApp:
    def test_no_tasks(self, terminal: Terminal) -> None:
        terminal.write("shop.py", "from jobmaster import JobMaster\njm = JobMaster('shop')\n")

        told = lines(terminal, code=1)

        assert "FAIL  tasks          0 found" in told
        assert "include=[...]" in told

    def test_retention_for_ever(self, tmp_path: Path) -> None:
        assert "kept for ever" in consult(tmp_path, retention=None).troubles()["retention"]
        assert consult(tmp_path).one("retention").fact == "ended jobs are deleted after 30 d"

    def test_an_archive_that_this_program_does_not_have(self, tmp_path: Path) -> None:
        told = consult(tmp_path, archive_to="attic").troubles()["retention"]

        assert told.startswith("FAULT archive_to 'attic': This program has no app of cluster 'attic'")

    def test_an_archive_that_is_there(self, tmp_path: Path) -> None:
        from jobmaster import JobMaster

        attic = JobMaster(
            "attic", folder=str(tmp_path), master="sqlite:///attic.db", cluster_mode="archived", retention=None
        )

        visit = consult(tmp_path, archive_to="attic")

        assert visit.one("retention").fact == "ended jobs move to cluster attic after 30 d"
        attic.close()

    @pytest.mark.parametrize("mode", ["passive", "archived"])
    def test_a_mode_in_which_nothing_runs(self, tmp_path: Path, mode: str) -> None:
        assert f"cluster_mode is {mode}" in consult(tmp_path, cluster_mode=mode).troubles()["mode"]

    def test_a_misspelt_variable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JOBMASTER_LAESE", "3")

        def first(app: object) -> None:
            app.resolve_again()  # type: ignore[attr-defined]

        from jobmaster.apps import apps

        monkeypatch.setattr(apps, "_default", None)
        assert "JOBMASTER_LAESE" in consult(tmp_path, change=first).troubles()["settings"]

    @pytest.mark.parametrize(
        ("module", "dsn", "packages"),
        [
            ("asyncpg", "postgresql://shop@127.0.0.1:1/shop", "asyncpg 'psycopg[binary]'"),
            ("aiomysql", "mysql://shop@127.0.0.1:1/shop", "aiomysql"),
            ("aioodbc", "mssql://shop@127.0.0.1:1/shop", "aioodbc"),
        ],
        ids=["P", "M", "S"],
    )
    def test_a_driver_that_is_missing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, dsn: str, packages: str
    ) -> None:
        monkeypatch.setitem(sys.modules, module, None)

        visit = consult(tmp_path, master=dsn)

        told = [one.fact for one in visit.findings if one.check == "driver"]
        assert f"pip install {packages}" in told[0]
        assert visit.left_out == ["cluster", "jobs"]

    def test_psycopg_is_missed_where_it_is_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "psycopg", None)

        told = consult(tmp_path, master="postgresql://shop@127.0.0.1:1/shop").troubles()["driver"]

        assert told.startswith("WARNING psycopg is not installed")
        assert "pip install 'psycopg[binary]'" in told

    @pytest.mark.skipif(_has_odbc(), reason="libodbc is installed here")
    def test_sql_server_without_libodbc(self, tmp_path: Path) -> None:
        visit = consult(tmp_path, master="mssql://shop@127.0.0.1:1/shop")

        assert "unixodbc" in str(visit.troubles()["driver"])

    @pytest.mark.parametrize("kind", ["mysql", "mssql"], ids=["M", "S"])
    def test_a_store_that_this_version_has_not(self, tmp_path: Path, kind: str) -> None:
        told = consult(tmp_path, master=f"{kind}://shop:hunter2@127.0.0.1:1/shop").troubles()["store"]

        assert f"this version of JobMaster has no {kind} store" in told
        assert "hunter2" not in told

    def test_a_nats_agent_is_told_to_be_impossible_and_its_threshold_too_long(self, tmp_path: Path) -> None:
        agents = [{"name": "fast", "url": "nats://127.0.0.1:4222"}]

        long = consult(tmp_path, agents=agents)
        short = consult(tmp_path, agents=agents, transient_threshold=60)

        assert long.one("store").store == "fast"
        assert "no nats store" in long.one("store").fact
        assert 'transient_threshold="2m"' in long.troubles()["threshold"]
        assert "threshold" not in short.troubles()

    def test_an_old_python_or_sqlite(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
        monkeypatch.setattr(installation, "OLDEST_PYTHON", (4, 0))

        troubles = consult(tmp_path).troubles()

        assert troubles.keys() >= {"python", "sqlite"}
        assert "use a newer Python" in troubles["sqlite"]

    def test_a_check_that_fails_itself_is_a_finding_and_the_others_go_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken() -> None:
            raise ZeroDivisionError("an error of ours")

        monkeypatch.setattr(installation, "host_zone", broken)

        visit = consult(tmp_path)

        assert visit.troubles()["host zone"].startswith("FAULT the check itself failed: ZeroDivisionError")
        assert visit.one("app").fact == "cluster visited"


def hurried(terminal: Terminal, change: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`jobmaster doctor` with other limits of time."""
    program = (
        "from jobmaster.cli import checkup, doctor, main\nfrom jobmaster.cli.checks import installation\n"
        f"import sys\n{change}\nsys.argv = ['jobmaster', '-A', 'shop', 'doctor', *sys.argv[1:]]\nmain()"
    )
    return subprocess.run(
        [sys.executable, "-c", program], cwd=terminal.folder, env=terminal.environment | environment,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_a_server_that_takes_connections_and_says_nothing(terminal: Terminal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        master = f"postgresql://shop@127.0.0.1:{silent.getsockname()[1]}/shop"
        given_up = hurried(terminal, "checkup.QUESTION_WITHIN, checkup.CHECK_WITHIN = 0.5, 30", JOBMASTER_MASTER=master)
        left = hurried(terminal, "checkup.QUESTION_WITHIN, checkup.CHECK_WITHIN = 30, 3.0", JOBMASTER_MASTER=master)

    assert (given_up.returncode, left.returncode) == (3, 3), left.stderr
    assert "did not answer in time" in given_up.stdout
    assert "no answer within 3 s" in left.stdout
    assert "1 faults" in left.stdout
    assert "Traceback" not in given_up.stderr + left.stderr


def test_an_import_that_cannot_be_interrupted_ends_with_the_whole(terminal: Terminal) -> None:
    program = "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])\ntime.sleep(60)\n"
    terminal.write("shop.py", program)

    done = hurried(terminal, "installation.IMPORT_WITHIN = 0.2; doctor.ALL_WITHIN = 4.0")

    assert done.returncode == 1
    assert "FAIL  doctor         not done within 4 s" in done.stdout
    assert "ok    python" in done.stdout
