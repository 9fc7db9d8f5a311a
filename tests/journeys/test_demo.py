"""`jobmaster demo`, as a newcomer meets it: what it prints is true, and nothing of it stays behind."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.backend("sqlite")

ROOT = Path(__file__).parents[2]
PROGRAM = str(Path(sys.executable).with_name("jobmaster"))
ENDS_WITHIN = 30.0
ERRANDS = 5

# The program, for tests that others run beside: a machine that is busy for a moment starts jobs late, which is told and
# fails, and that is not what they are about.
PATIENT = f"""
import builtins, sys
usual = builtins.__import__
def imported(name, *rest):
    module = usual(name, *rest)
    if name == "jobmaster.demo.story":  # which the command imports when it has set the environment
        from jobmaster.demo import checking, firing
        checking.LATEST = checking.CLOCKS_AGREE = firing.ON_TIME = 30
        module.ENDS_WITHIN = 40
    return module
builtins.__import__ = imported
sys.argv[0] = {PROGRAM!r}
from jobmaster.cli import main
main()
"""
BESIDE_OTHERS = [sys.executable, "-c", PATIENT]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder whose words were counted by hand."""
    folder = tmp_path / "some texts"
    (folder / "deep" / ".hidden").mkdir(parents=True)
    (folder / "a.md").write_text("The fox. THE dog!\n", encoding="utf-8")
    (folder / "deep" / "b.py").write_text("fox = the_dog2 + 7\n", encoding="utf-8")
    (folder / "c.json").write_text('{"größe": "fox"}\n', encoding="utf-8")
    (folder / "deep" / ".hidden" / "d.md").write_text("nobody reads this\n", encoding="utf-8")
    (folder / "e.png").write_bytes(b"\x89PNG fox")
    (folder / "f.md").symlink_to(folder / "a.md")
    return folder


WORDS = {"fox": 3, "the": 3, "dog": 2, "größe": 1}


@pytest.fixture
def place() -> Iterator[Path]:
    """The demo's folder for temporary files, and its current one; empty again at the end. As short as /tmp."""
    with tempfile.TemporaryDirectory(prefix="d") as folder:
        yield Path(folder)
        assert list(Path(folder).iterdir()) == []


def environment(place: Path, **more: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("JOBMASTER_")}
    return {**env, "TMPDIR": str(place), "HOME": str(place), "PYTHONUNBUFFERED": "1", **more}


def demo(*arguments: str, place: Path, alone: bool = False, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*([PROGRAM] if alone else BESIDE_OTHERS), "demo", *arguments],
        cwd=place, env=environment(place, **more), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


class Running:
    """A demo that runs; its output is collected by a thread."""

    def __init__(self, *arguments: str, place: Path, columns: int | None = None, **more: str) -> None:
        ours, theirs = pty.openpty() if columns else os.pipe()
        if columns:
            more |= {"COLUMNS": str(columns), "LINES": "50", "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            [*BESIDE_OTHERS, "demo", *arguments], cwd=place, env=environment(place, **more),
            stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.output = ""
        self._reader = threading.Thread(target=self._read, args=(ours,), daemon=True)
        self._reader.start()

    def wait_for(self, found: Callable[[str], object]) -> None:
        deadline = time.monotonic() + 60
        while not found(self.output):
            assert time.monotonic() < deadline, self.output
            assert self.process.poll() is None, self.output
            time.sleep(0.02)

    def end(self, number: int | None = None) -> int:
        """Send a signal, if one is given; the answer is the exit code."""
        if number is not None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self._reader.join(10)
        return code

    @property
    def worker(self) -> int:
        found = re.search(r"worker +pid (\d+)", self.output)
        assert found, self.output
        return int(found[1])

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            try:
                while part := stream.read(65_536):
                    self.output += part.decode(errors="replace")
            except OSError:  # a terminal whose last program has ended
                return


Start = Callable[..., Running]


@pytest.fixture
def start(place: Path) -> Iterator[Start]:
    """Starts demos; one that still runs when its test has failed is ended."""
    started: list[Running] = []

    def begin(*arguments: str, columns: int | None = None, **more: str) -> Running:
        started.append(Running(*arguments, place=place, columns=columns, **more))
        return started[-1]

    yield begin
    for running in started:
        if running.process.poll() is None:
            running.end(signal.SIGTERM)


@pytest.mark.alone
def test_its_numbers_are_those_of_the_files_and_it_ends_in_time(texts: Path, place: Path) -> None:
    begin = time.monotonic()
    done = demo("--once", "--json", "--dir", str(texts), place=place, alone=True)
    seconds = time.monotonic() - begin

    assert done.returncode == 0, done.stderr + done.stdout
    assert seconds < ENDS_WITHIN
    told = json.loads(done.stdout)
    assert (told["as_planned"], told["differences"], told["jobs"], told["files"]) == (True, [], 3 + ERRANDS, 3)
    assert told["most_frequent"] == WORDS
    assert (told["words"], told["different_words"]) == (sum(WORDS.values()), len(WORDS))
    assert 0 <= told["late_seconds"] <= 0.5
    runs = [datetime.fromisoformat(at) for at in told["schedule"]["runs"]]
    assert {after - before for before, after in pairwise(runs)} == {timedelta(seconds=2)}, "none missed, none doubled"
    assert 0 <= told["schedule"]["latest_seconds"] <= 0.5
    assert [kind["as_planned"] for kind in told["kinds"]] == [1] * 8
    assert {kind["lane"] for kind in told["kinds"]} == {"files", "errands"}
    assert {kind["priority"] for kind in told["kinds"]} == {"very_low", "low", "medium", "high", "critical"}
    processes = {told["pid"], told["worker_pid"], *told["ran_in_pids"]}
    assert len(processes) == 3
    assert not any(psutil.pid_exists(pid) for pid in processes)


def test_its_words_fit_a_pipe_and_a_database_of_ones_own_is_kept(texts: Path, place: Path, tmp_path: Path) -> None:
    master = f"sqlite:///{tmp_path}/m.db"  # beside which there is room for sockets: their paths are short
    for jobs in (8, 16):  # the second one sees only its own
        done = demo(
            "--once", "--dir", str(texts), "--master", master, place=place, JOBMASTER_MASTER="mysql://elsewhere/x"
        )
        assert done.returncode == 0, done.stderr + done.stdout
        listed = subprocess.run(
            [PROGRAM, "jobs", "list", "-A", "jobmaster.demo.app", "--json"],
            cwd=place, env=environment(place, JOBMASTER_MASTER=master), capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert sum(job["task"] != "demo.heartbeat" for job in json.loads(listed.stdout)["jobs"]) == jobs

    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    assert all(line == line.rstrip() for line in done.stdout.splitlines())
    assert re.search(r"worker +pid \d+, a process of its own", done.stdout)
    assert re.search(r"ended 8 of 8\n", done.stdout)
    assert re.search(r"fails once, is retried +errands +high +1/1 +Succeeded\n", done.stdout)
    assert re.search(r"its file is missing +errands +medium +1/1 +Failed\n", done.stdout)
    assert re.search(r"cancelled as it runs +errands +low +1/1 +Cancelled\n", done.stdout)
    assert re.search(r"fires every 2 s +errands +critical +\d+ +Succeeded\n", done.stdout)
    assert re.search(r"schedule every 2 s: \d+ runs, none missed or doubled, up to \d+ ms late\n", done.stdout)
    assert re.search(r"top +fox 3   the 3   dog 2   größe 1\n", done.stdout)
    assert "All 8 jobs ended as planned." in done.stdout
    trace = done.stdout[done.stdout.index("Traceback") : done.stdout.index("All 8 jobs")].strip().splitlines()
    assert trace[1].strip().startswith('File "')
    assert trace[1].endswith("in count_words")  # the user's function comes first, not the engine's
    assert trace[-1].strip().startswith("FileNotFoundError: ")
    assert len(trace) <= 5


@pytest.mark.parametrize(("columns", "wanted"), [(80, {"NO_COLOR": "1"}), (120, {})])
def test_on_a_terminal_a_table_is_drawn_anew(texts: Path, start: Start, columns: int, wanted: dict[str, str]) -> None:
    running = start("--once", "--dir", str(texts), columns=columns, **wanted)

    assert running.end() == 0
    assert running.output.count("count words: documents") > 3  # drawn while jobs ran
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-7]m", running.output)) == (not wanted)
    assert "ended 8 of 8" not in running.output  # that is for those without a terminal
    last = running.output[running.output.rindex("  jobs  ") : running.output.index("Result, each")]
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", last)
    assert len(plain.split("\n")) == 12  # head, eight kinds, the schedule, an empty line: nothing is broken in two


def test_every_command_that_it_prints_works(texts: Path, place: Path, start: Start) -> None:
    running = start("--dir", str(texts))
    running.wait_for(lambda output: "Ctrl-C stops the worker" in output)
    shown = running.output[running.output.index("The worker stays.") :]
    commands = [line.strip() for line in shown.splitlines() if re.match(r"  (export|\S*/jobmaster) ", line)]
    assert len(commands) == 10

    script = "set -eu\n" + "\n".join(f"echo '>>>'; {command}" for command in commands)
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    by_command = dict(zip(commands, done.stdout.split(">>>\n")[1:], strict=True))
    (show,) = (text for command, text in by_command.items() if " jobs show " in command)
    assert "FileNotFoundError" in show
    assert "in count_words" in show
    (failed,) = (text for command, text in by_command.items() if command.endswith("--status failed"))
    assert failed.count("demo.count_words") == 1
    (history,) = (text for command, text in by_command.items() if " schedules show " in command)
    assert "fires  every 2 seconds" in history
    assert history.count("Succeeded") >= 2
    (reminded,) = (text for command, text in by_command.items() if " demo.remind " in command)
    assert abs(time.time() - float(reminded)) < 100
    assert running.end(signal.SIGINT) == 0
    assert "The worker stops. The demo's files are deleted." in running.output
    assert not psutil.pid_exists(running.worker)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ended_in_the_middle_it_leaves_nothing(texts: Path, start: Start, number: int) -> None:
    running = start("--once", "--dir", str(texts))
    running.wait_for(lambda output: re.search(r"ended \d+ of 8", output))
    processes = [psutil.Process(running.worker), *psutil.Process(running.worker).children(recursive=True)]

    running.process.send_signal(number)
    assert running.end(number) == 130

    assert "Stopped before all jobs had ended." in running.output
    assert "Traceback" not in running.output
    assert len(processes) >= 2
    assert psutil.wait_procs(processes, timeout=30)[1] == []


def test_a_worker_that_is_gone_is_told(texts: Path, start: Start) -> None:
    running = start("--once", "--dir", str(texts))
    running.wait_for(lambda output: re.search(r"ended \d+ of 8", output))
    engines = psutil.Process(running.worker).children(recursive=True)

    os.kill(running.worker, signal.SIGKILL)

    assert running.end() == 1
    assert re.search(rf"The worker \(pid {running.worker}\) ended with exit code -9\. It said:", running.output)
    assert psutil.wait_procs(engines, timeout=30)[1] == []


PATCHED = """
import os, sys, dataclasses
from pathlib import Path
os.environ["JOBMASTER_MASTER"] = f"sqlite:///{os.environ['TMPDIR']}/x/demo.db"
from jobmaster.demo import checking, plan, story
WHAT
temporary = Path(os.environ["TMPDIR"]) / "x"
temporary.mkdir()
order = story.Order(folder=Path(sys.argv[1]), temporary=temporary, given_master=None, once=True, as_json=False)
try:
    sys.exit(story.run(order))
finally:
    __import__("shutil").rmtree(temporary)
"""


WRONG_PLANS = (
    (
        "plan.RETRIED = dataclasses.replace(plan.RETRIED, attempts=1)",
        "plan.FAILING = checking.FAILING = dataclasses.replace(plan.FAILING, error='OSError')",
        "checking.recount = lambda files: ({'fox': 3, 'the': 3, 'dog': 1, 'größe': 1}, set())",
        "checking.LATEST = -1",
        "from jobmaster.demo import firing; firing.LEAST, firing.ON_TIME = 99, 30",
        "real = checking.check; story.check = lambda sent, found, worker, beats: real(sent, found, worker + 1, beats)",
    ),
    (
        "plan.FAILING = checking.FAILING = dataclasses.replace(plan.FAILING, ends=plan.JobStatus.SUCCEEDED)",
        "checking.CLOCKS_AGREE, checking.LATEST = -1, 30",
        "from jobmaster.demo import firing; firing.ON_TIME = 30",
        "plan.CODE = dataclasses.replace(plan.CODE, lane='elsewhere'); plan._KIND_OF[plan.CODE.priority] = plan.CODE",
        "story.ENDS_WITHIN = 10",  # nobody sees the job that is elsewhere
    ),
)
WHAT_IS_TOLD = (
    (
        r"fails once, is retried: planned 1 attempts, but it had 2",
        r"its file is missing: planned to fail with OSError, but \(FileNotFoundError: .*\)",
        r"1 words have another count than in a second one; the first is 'dog': 2 by the jobs, 1 by the other code",
        r"jobs ran in the processes \[\d+\], which the worker \d+ did not start",
        r"the job that was due started \+\d+ ms from its time; planned 0 to -1000",
        r"the schedule demo.heartbeat: planned at least 99 runs, but \d have ended",
    ),
    (
        r"its file is missing: planned Succeeded, but it is Failed \(FileNotFoundError: .*\)",
        r"count words of .*b\.py: planned for elsewhere, MEDIUM, but is files, MEDIUM",
        r"the job that was due started \+\d+ ms from its time by the master, and \+\d+ ms by itself",
    ),
)


@pytest.mark.parametrize(("plans", "told"), [*zip(WRONG_PLANS, WHAT_IS_TOLD, strict=True)])
def test_what_is_not_as_planned_is_told_and_fails(
    texts: Path, place: Path, plans: tuple[str, ...], told: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PATCHED.replace("WHAT", "\n".join(plans)), str(texts)],
        cwd=place, env=environment(place), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip

    assert done.returncode == 1, done.stdout + done.stderr
    shown = (
        done.stdout[done.stdout.index("Not as planned:") : done.stdout.index("What the worker")]
        .strip()
        .splitlines()[1:]
    )
    assert len(shown) == len(told), shown
    unmatched = [pattern for pattern in told if not any(re.fullmatch(f"  {pattern}", line) for line in shown)]
    assert unmatched == [], shown
    assert "ended as planned" not in done.stdout


def test_a_file_that_changes_meanwhile_is_left_out_and_said(texts: Path, start: Start) -> None:
    running = start("--once", "--dir", str(texts))
    running.wait_for(lambda output: "worker  " in output)
    (texts / "a.md").write_text("something else\n", encoding="utf-8")

    assert running.end() == 0
    assert "files    2 (1 changed meanwhile, and are left out)" in running.output
    assert "All 7 jobs ended as planned." in running.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--dir", "nowhere"], "There is no folder 'nowhere'. Give one that has text files: --dir PATH."),
        (["--dir", "."], "has no text file of at most 256 KiB"),
        (["--master", "nonsense"], "'nonsense' has no scheme"),
        (["--master", "nats://127.0.0.1"], "nats"),
        (["--sometimes"], "No such option '--sometimes'."),
    ],
)
def test_bad_arguments_are_told_before_anything_is_started(place: Path, arguments: list[str], told: str) -> None:
    done = demo("--once", *arguments, place=place)

    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_error_is_json_where_that_is_asked_for(place: Path) -> None:
    done = demo("--json", "--dir", "nowhere", place=place)

    assert done.returncode == 2
    assert json.loads(done.stderr)["error"]["type"] == "ConfigurationError"


def test_make_demo_is_this_program() -> None:
    told = subprocess.run(
        ["make", "-n", "demo", "ARGS=--once", "DIR=some folder"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert '.venv/bin/jobmaster demo --dir "$DIR" --once' in told
