"""Real engine processes: messages, shared memory, and every way in which one can end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from jobmaster.engine.links import framing, memory
from jobmaster.engine.links.child_end import ProcessEngineLink
from jobmaster.engine.links.memory import SharedMemory
from jobmaster.engine.links.processes import ProcessSpawner
from jobmaster.engine.links.spawned import DEAF
from jobmaster.model.worker import Grant
from jobmaster.ports.link import Report
from tests.engine.child_entries import LATER, RAN
from tests.engine.one_child import launch, with_child
from tests.engine.pool_workload import until

ROOT = Path(__file__).parents[2]


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def test_a_report_a_grant_beats_and_evidence_cross_between_the_processes(tmp_path):
    told = tmp_path / "told"

    async def story(child, news):
        await until(child.reports)
        assert (child.reports().worker, child.reports().cut_us) == (1, 42)
        assert "hurry" in news
        assert child.evidence() == [RAN, LATER]
        before = child.beats()
        await until(lambda: child.beats() > before + 2)
        child.grant(Grant(5, 1), trust_until_ns=77)
        await until(lambda: "grant 5 True" in lines(told))
        assert child.exit_reason() is None
        assert child.pid != os.getpid()

    with_child(story, launch(told=str(told)))


def test_terminate_stops_gracefully_and_the_second_time_at_once(tmp_path):
    told = tmp_path / "told"

    async def story(child, _news):
        await until(child.reports)
        child.terminate()
        await until(lambda: "stop 3" in lines(told))
        assert child.exit_reason() is None
        child.terminate()
        await until(child.exit_reason)
        assert "abort" in lines(told)
        assert child.exit_reason() == "exit 0"

    with_child(story, launch(act="finish slowly", told=str(told)))


def test_a_sigterm_that_comes_twice_is_one_wish(tmp_path):
    told = tmp_path / "told"

    async def story(child, _news):
        await until(child.reports)
        os.kill(child.pid, signal.SIGTERM)
        await until(lambda: "stop 3" in lines(told))
        os.kill(child.pid, signal.SIGTERM)
        before = child.beats()
        await until(lambda: child.beats() > before + 3)
        assert lines(told).count("stop 3") == 1
        assert "abort" not in lines(told)

    with_child(story, launch(act="finish slowly", told=str(told)))


def test_one_that_closed_its_connection_is_ended_and_what_ran_in_it_is_known():
    async def story(child, _news):
        await until(child.reports)
        await until(child.exit_reason)
        assert child.exit_reason() == DEAF
        assert child.evidence() == [RAN, LATER]

    with_child(story, launch(act="close its sockets"))


def without_threads(monkeypatch):
    """From now on the system gives no more threads; the answer is what was asked for."""
    asked = []

    def start(thread):
        asked.append(thread.name)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("jobmaster.engine.links.spawned.threading.Thread.start", start)
    return asked


def test_where_no_thread_can_wait_for_it_a_process_is_ended_at_once(monkeypatch):
    gc.collect()
    descriptors = psutil.Process().num_fds()
    asked = without_threads(monkeypatch)

    async def start():
        with pytest.raises(RuntimeError, match="new thread"):
            await ProcessSpawner(lambda _engine: launch()).spawn(0)

    asyncio.run(start())
    (name,) = asked
    assert not psutil.pid_exists(int(name.rpartition("-")[2]))
    gc.collect()
    assert psutil.Process().num_fds() <= descriptors


def test_control_c_in_the_terminal_is_left_to_the_supervisor():
    async def story(child, _news):
        await until(child.reports)
        os.kill(child.pid, signal.SIGINT)
        before = child.beats()
        await until(lambda: child.beats() > before + 3)
        assert child.exit_reason() is None

    with_child(story, launch())


def test_sigterm_while_the_users_code_is_imported_ends_at_once(tmp_path):
    told = tmp_path / "told"

    async def story(child, _news):
        await until(lambda: "importing" in lines(told))
        child.terminate()
        await until(child.exit_reason)
        assert child.exit_reason() == "exit 0"

    with_child(story, launch("slow_import", told=str(told)))


@pytest.mark.parametrize(
    ("act", "word"),
    [("segfault", "SIGSEGV"), ("exit", "exit 7"), ("raise", "exit 1"), ("end", "exit 0"), ("leave a thread", "exit 0")],
)
def test_every_end_has_its_word_and_leaves_its_evidence(act, word):
    async def story(child, news):
        await until(child.exit_reason)
        assert child.exit_reason() == word
        assert news[-1] == "news"
        assert child.reports().worker == 1, "what it said last has been heard"
        assert child.evidence() == [RAN, LATER]

    with_child(story, launch(act=act))


def test_a_copy_that_a_job_ends_is_no_reason_to_stop(tmp_path):
    told = tmp_path / "told"

    async def story(child, _news):
        await until(lambda: [line for line in lines(told) if line.startswith("copy")])
        beats = child.beats()
        await until(lambda: child.beats() > beats + 2)  # its loop has turned since
        assert "copy -15" in lines(told)
        assert not [line for line in lines(told) if line.startswith("stop")]
        assert child.exit_reason() is None

    with_child(story, launch(act="end a copy", told=str(told)))


def test_an_end_waits_for_no_processes_that_jobs_have_left_and_ends_them(tmp_path):
    told = tmp_path / "told"

    async def story(child, _news):
        await until(child.exit_reason)
        assert child.exit_reason() == "exit 0"
        left = [int(pid) for line in lines(told) if line.startswith("left") for pid in line.split()[1:]]
        assert len(left) == 2
        await until(lambda: not any(map(runs, left)))

    with_child(story, launch(act="leave processes", told=str(told)))


def runs(process: int) -> bool:
    """Not one that has ended, and that nobody has asked about."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_kill_has_its_word():
    async def story(child, _news):
        await until(child.reports)
        child.kill()
        await until(child.exit_reason)
        assert child.exit_reason() == "SIGKILL"
        child.kill()
        child.terminate()

    with_child(story, launch())


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("broken_import", "ModuleNotFoundError: No module named 'shop_that_does_not_exist'"),
        ("broken_settings", "cannot start: lease is 0 s. Give at least 1 s."),
        ("exits_when_imported", "SystemExit: this module is a script"),
        ("broken_schema", "cannot start: another cluster lives there"),
        ("name_is_taken", "cannot start: a newer worker named 'w1' is running"),
        ("no_such_entry", "no_such_entry"),
    ],
)
def test_a_child_that_cannot_start_says_why(entry, words):
    async def story(child, _news):
        await until(child.exit_reason)
        assert child.exit_reason().startswith("cannot start: ")
        assert words in child.exit_reason()

    with_child(story, launch(entry))


def test_a_store_that_does_not_answer_is_another_matter():
    async def story(child, _news):
        await until(child.exit_reason)
        assert child.exit_reason() == "exit 3"

    with_child(story, launch("no_database"))


def test_a_condemnation_is_announced_and_readable():
    async def story(child, news):
        await until(child.condemned)
        assert child.condemned() == "run x does not end"
        await until(lambda: "news" in news)

    with_child(story, launch(act="condemn"))


def test_thousands_of_reports_while_the_supervisor_is_busy_arrive_as_the_last_one():
    async def story(child, _news):
        await until(child.reports)
        await until(lambda: child.reports().cut_us == 4999)

    with_child(story, launch(act="many reports"))


def test_a_wish_for_a_renewal_survives_the_reports_that_replace_it_on_a_full_socket():
    async def tell():
        descriptor = memory.create()
        ours, theirs = socket.socketpair()
        link = ProcessEngineLink(SharedMemory(descriptor), on_hurry=lambda: None)
        os.close(descriptor)
        await asyncio.get_running_loop().create_unix_connection(lambda: link.frames, sock=ours)
        link.report(Report(1, stats=b"x" * 5_000_000))
        link.report(Report(1, soon=True))
        for number in range(5):
            link.report(Report(1, cut_us=number))
        theirs.setblocking(True)
        payloads = [(await asyncio.to_thread(framing.receive, theirs))[1] for _ in range(2)]
        last = msgspec.msgpack.decode(payloads[-1], type=Report)
        assert (last.cut_us, last.soon) == (4, True)
        link.report(Report(1, cut_us=9))
        last = msgspec.msgpack.decode((await asyncio.to_thread(framing.receive, theirs))[1], type=Report)
        assert (last.cut_us, last.soon) == (9, False)
        link.frames.close()
        theirs.close()

    asyncio.run(tell())


@pytest.mark.parametrize("act", ["block", "hold the interpreter"])
def test_stacks_of_a_blocked_process_are_written_and_its_trust_can_still_be_moved(act, capfd, tmp_path):
    told = tmp_path / "told"

    async def story(child, _news):
        await until(lambda: f"acts {act}" in lines(told))
        await until(Still(child))
        child.dump_stacks()
        seen = []
        await until(lambda: "child_entries.py" in _errors(capfd, seen))
        child.grant(Grant(1, 1), trust_until_ns=99)
        assert child._memory.trust_until_ns() == 99

    with_child(story, launch(act=act, told=str(told)))


def _errors(capfd, seen):
    seen.append(capfd.readouterr().err)
    return "".join(seen)


class Still:
    """True once the child's counter has not moved for 0.3 seconds; it moves every 0.05."""

    def __init__(self, child):
        self._child, self._beats, self._since = child, -1, 0.0

    def __call__(self):
        beats, now = self._child.beats(), time.monotonic()
        if beats != self._beats:
            self._beats, self._since = beats, now
        return beats > 0 and now - self._since > 0.3


PARENT = """
import asyncio, msgspec, sys
from jobmaster.engine.links.processes import ProcessSpawner
from tests.engine.one_child import launch
async def main():
    child = await ProcessSpawner(lambda engine: launch(act=sys.argv[1])).spawn(0)
    while not child.reports():
        await asyncio.sleep(0.01)
    print(child.pid, flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""


@pytest.mark.parametrize("act", ["", "hold the interpreter"])
def test_children_end_with_a_supervisor_that_is_killed(act):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, act], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        assert psutil.wait_procs([child], timeout=10)[1] == [], "the child lives on"
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


def test_where_the_system_sends_no_signal_the_pipe_ends_the_children():
    code = "import sys; sys.platform = 'other'; from jobmaster.engine.child import main; main(sys.argv[1:])"
    lifeline, held = os.pipe()
    shared = memory.create()
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(shared), str(theirs.fileno()), str(lifeline), str(os.getpid())],
        cwd=ROOT,
        pass_fds=(shared, theirs.fileno(), lifeline),
    )
    try:
        with ours:
            theirs.close()
            os.close(lifeline)
            ours.sendall(framing.frame(framing.LAUNCH, msgspec.msgpack.encode(launch(act="block"))))
            assert framing.receive(ours)[0] == framing.REPORT
            assert process.poll() is None
            os.close(held)
            assert process.wait(20) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()
        os.close(shared)
