"""The producer's side through the lives of its process: closing, forks, and loops that end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from jobmaster import JobMaster, JobStatus, StoreUnavailable

pytestmark = pytest.mark.backend("memory")


def test_a_closed_app_opens_again_at_the_next_call(tmp_path: Path) -> None:
    app = JobMaster("unit", master=f"sqlite:///{tmp_path}/x.db")

    @app.task
    def hello() -> None: ...

    hello.delay()
    app.close()
    hello.delay()
    assert app.jobs.count() == {JobStatus.SAVE_PENDING: 2}
    app.close()
    app.close()


@pytest.mark.backend("sqlite")
def test_an_app_that_is_closed_while_threads_enqueue_loses_nothing_and_hangs_nobody(tmp_path: Path) -> None:
    app = JobMaster("unit", master=f"sqlite:///{tmp_path}/x.db")

    @app.task
    def hello() -> None: ...

    stop, stored, refused = threading.Event(), [], []

    def produce() -> None:
        while not stop.is_set():
            try:
                stored.append(hello.delay().id)
            except StoreUnavailable:
                refused.append(1)

    threads = [threading.Thread(target=produce) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        time.sleep(0.01)
        app.close()
    stop.set()
    for thread in threads:
        thread.join(timeout=5)

    assert not any(thread.is_alive() for thread in threads)
    assert app.jobs.count() == {JobStatus.SAVE_PENDING: len(stored)}
    app.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.backend("sqlite")
def test_a_forked_child_and_its_parent_both_enqueue(tmp_path: Path) -> None:
    program = tmp_path / "forks.py"
    program.write_text(
        textwrap.dedent(f"""
        import os, sys
        from jobmaster import JobMaster
        jm = JobMaster("forks", master="sqlite:///{tmp_path}/forks.db", accept_timeout=30)

        @jm.task
        def hello(name: str) -> str: return name

        hello.delay("before")
        children = []
        for number in range(3):
            pid = os.fork()
            if pid == 0:
                hello.delay(f"child {{number}}")
                jm.close()
                os._exit(0)
            children.append(pid)
        hello.delay("parent")
        codes = [os.waitpid(pid, 0)[1] for pid in children]
        hello.delay("after")
        print(codes, sum(jm.jobs.count().values()))
        jm.close()
        """),
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(program)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.strip() == "[0, 0, 0] 6"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.backend("sqlite")
def test_forks_in_the_middle_of_other_threads_calls_lose_and_repeat_nothing(tmp_path: Path) -> None:
    program = tmp_path / "forks.py"
    program.write_text(
        textwrap.dedent(f"""
        import os, signal, threading
        from jobmaster import JobMaster
        jm = JobMaster("forks", master="sqlite:///{tmp_path}/forks.db", accept_timeout=30)

        @jm.task
        def hello() -> None: ...

        hello.delay()
        stop, counts = threading.Event(), [0, 0]

        def produce(number):
            while not stop.is_set():
                hello.delay()
                counts[number] += 1

        threads = [threading.Thread(target=produce, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        codes = []
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                signal.alarm(40)
                hello.delay()
                jm.close()
                os._exit(0)
            codes.append(os.waitpid(pid, 0)[1])
        stop.set()
        for thread in threads:
            thread.join()
        print(codes, sum(jm.jobs.count().values()) - sum(counts))
        jm.close()
        """),
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(program)],
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.strip() == "[0, 0, 0, 0, 0] 6"


@pytest.mark.backend("sqlite")
def test_short_loops_that_forget_to_close_leave_no_threads_behind(tmp_path: Path) -> None:
    app = JobMaster("unit", master=f"sqlite:///{tmp_path}/x.db")

    @app.task
    def hello() -> None: ...

    async def one() -> None:
        await hello.adelay()

    before = threading.active_count()
    for _ in range(3):
        asyncio.run(one())
    assert threading.active_count() == before
    assert app.jobs.count() == {JobStatus.SAVE_PENDING: 3}
    app.close()
    assert threading.active_count() == before
