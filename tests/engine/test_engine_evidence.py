"""What is known of an engine process that has ended: its shared memory, the word for its end, the kernel's count."""

from __future__ import annotations

import os
import signal

import pytest

from jobmaster.engine.links import endings, memory
from jobmaster.engine.links.endings import exit_word, out_of_memory_kills
from jobmaster.engine.links.memory import SharedMemory
from jobmaster.model.ids import new_job_key
from tests.engine.one_child import launch, with_child
from tests.engine.pool_workload import until


def test_a_full_table_of_places_loses_evidence_and_nothing_else():
    descriptor = memory.create()
    assert os.fstat(descriptor).st_mode & 0o077 == 0
    shared = SharedMemory(descriptor)
    os.close(descriptor)
    places = [shared.note(new_job_key()) for _ in range(4096)]
    assert len(set(places)) == 4096
    assert shared.note(new_job_key()) == -1
    shared.clear(-1)
    assert len(shared.evidence()) == 4096
    for place in places:
        shared.clear(place)
    assert shared.evidence() == []
    assert shared.note(new_job_key()) >= 0


def test_evidence_tells_who_began_last_also_where_places_were_used_again():
    descriptor = memory.create()
    engine, supervisor = SharedMemory(descriptor), SharedMemory(descriptor)
    os.close(descriptor)
    keys = [new_job_key() for _ in range(6)]
    places = [engine.note(key) for key in keys[:4]]
    engine.clear(places[1])
    engine.clear(places[0])
    places += [engine.note(key) for key in keys[4:]]
    assert {places[4], places[5]} == {places[0], places[1]}
    assert supervisor.evidence() == [keys[2], keys[3], keys[4], keys[5]]
    engine.clear(places[5])
    assert supervisor.evidence() == [keys[2], keys[3], keys[4]]


def test_the_first_condemnation_stands_however_long_its_text():
    descriptor = memory.create()
    shared = SharedMemory(descriptor)
    os.close(descriptor)
    assert shared.condemned() is None
    shared.condemn("ä" * 1000)
    shared.condemn("second")
    assert shared.condemned().startswith("ää")
    assert shared.evidence() == []


@pytest.mark.parametrize(
    ("own", "file"),
    [
        ("0::/shop/worker\n", "shop/worker/memory.events"),
        ("0::/\n", "memory.events"),
        ("0::/not/mounted\n", "memory.events"),
        ("12:cpu,cpuacct:/x\n11:memory:/docker/abc\n", "memory/docker/abc/memory.oom_control"),
        ("11:memory:/docker/abc\n", "memory/memory.oom_control"),
    ],
    ids=["own group", "namespace", "root of the container", "version 1", "version 1, container"],
)
def test_kills_for_want_of_memory_are_counted_where_the_system_counts_them(own, file, tmp_path, monkeypatch):
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(endings, "OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(endings, "CGROUPS", tmp_path)
    assert out_of_memory_kills() == 0
    events = tmp_path / file
    events.parent.mkdir(parents=True, exist_ok=True)
    events.write_text("low 0\nhigh 7\nmax 31\noom 4\noom_kill 3\noom_group_kill 1\n")
    assert out_of_memory_kills() == 3
    events.write_text("nonsense")
    assert out_of_memory_kills() == 0


@pytest.mark.parametrize(("kills", "word"), [(1, "SIGKILL (out of memory)"), (0, "SIGKILL")])
def test_a_kill_that_nobody_here_sent_is_the_kernels_where_that_counted_one(kills, word, tmp_path, monkeypatch):
    events = tmp_path / "memory.events"
    (tmp_path / "own").write_text("0::/\n")
    events.write_text("oom_kill 5\n")
    monkeypatch.setattr(endings, "OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(endings, "CGROUPS", tmp_path)

    async def story(child, _news):
        await until(child.reports)
        events.write_text(f"oom_kill {5 + kills}\n")
        os.kill(child.pid, signal.SIGKILL)
        await until(child.exit_reason)
        assert child.exit_reason() == word

    with_child(story, launch())


def test_our_own_kill_is_no_want_of_memory_whatever_else_was_killed(tmp_path, monkeypatch):
    events = tmp_path / "memory.events"
    (tmp_path / "own").write_text("0::/\n")
    monkeypatch.setattr(endings, "OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(endings, "CGROUPS", tmp_path)

    async def story(child, _news):
        await until(child.reports)
        events.write_text("oom_kill 9\n")
        child.kill()
        await until(child.exit_reason)
        assert child.exit_reason() == "SIGKILL"

    with_child(story, launch())


def test_words_of_return_codes():
    assert [exit_word(code) for code in (0, 3, -9, -11, -63)] == ["exit 0", "exit 3", "SIGKILL", "SIGSEGV", "signal 63"]
    assert out_of_memory_kills() >= 0


def test_what_holds_the_loop_up_is_readable_until_it_turns_again():
    descriptor = memory.create()
    engine, supervisor = SharedMemory(descriptor), SharedMemory(descriptor)
    os.close(descriptor)
    innocent, guilty = new_job_key(), new_job_key()
    engine.note(innocent)
    engine.note(guilty)
    assert supervisor.accused() is None
    engine.accuse(guilty, "task shop.spin " + "ä" * 600)
    key, words = supervisor.accused()
    assert key == guilty
    assert words.startswith("task shop.spin ää")
    assert len(supervisor.evidence()) == 2, "long words strike no place"
    engine.accuse(None, "somebody's own thread")
    assert supervisor.accused() == (None, "somebody's own thread")
    engine.accuse(new_job_key(), "a job that is not noted")
    assert supervisor.accused() == (None, "a job that is not noted")
    engine.acquit()
    assert supervisor.accused() is None
    assert supervisor.condemned() is None
