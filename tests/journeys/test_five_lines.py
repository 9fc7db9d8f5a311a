"""The user's five lines, each with a worker that is started as users start it: `jobmaster worker -A myapp`."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MYAPP = """
    import os
    from jobmaster import JobMaster

    jm = JobMaster("myapp")

    @jm.task
    def hello(name: str) -> str:
        return f"Hello {name} from {os.getpid()}"

    if __name__ == "__main__":
        result = hello.delay(name="John")
        print(result.get(timeout=30), os.getpid())
"""


WEB = """
    from flask import Flask
    from jobmaster.web import JobMasterWeb
    from myapp import hello, jm

    app = Flask(__name__)
    app.register_blueprint(JobMasterWeb(jm).blueprint)
    opened = Flask("opened")
    opened.register_blueprint(JobMasterWeb(jm, auth=("admin", "secret-1")).blueprint)

    result = hello.delay(name="John")
    result.get(timeout=30)
    print(app.test_client().get("/jobs/", follow_redirects=True).status_code)
    print(opened.test_client().get("/jobs/", follow_redirects=True).status_code)
    page = opened.test_client().get("/jobs/", auth=("admin", "secret-1"), follow_redirects=True)
    print(page.status_code, "myapp.hello" in page.text, result.id in page.text, "Succeeded" in page.text)
"""


PROJ = """
    from jobmaster.compat import Celery

    app = Celery("proj", broker="{master}", backend="{master}")

    @app.task
    def add(x, y):
        return x + y

    @app.task(bind=True, max_retries=3)
    def flaky(self, name):
        if self.request.retries < 2:
            raise self.retry(countdown=0.05)
        return f"{name} after {self.request.retries} retries"

    if __name__ == "__main__":
        print(add.delay(2, 3).get(timeout=30))
        print(add.apply_async((4, 5), countdown=0.2).get(timeout=30))
        print(flaky.delay("done").get(timeout=30))
"""


@pytest.fixture
def folder(tmp_path: Path, usual_master: str | None) -> Path:
    (tmp_path / "myapp.py").write_text(textwrap.dedent(MYAPP), encoding="utf-8")
    return tmp_path


@contextmanager
def worker(folder: Path, *options: str, app: str = "myapp") -> Iterator[subprocess.Popen[str]]:
    """A worker as a user starts it; afterwards it is stopped by SIGTERM, and must end well."""
    command = [str(Path(sys.executable).with_name("jobmaster")), "worker", "-A", app, *options]
    with (folder / "worker.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, text=True)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=60)
    assert code == 0, (folder / "worker.log").read_text(encoding="utf-8")


def run_program(folder: Path, name: str) -> str:
    done = subprocess.run([sys.executable, name], cwd=folder, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr + (folder / "worker.log").read_text(encoding="utf-8")
    return done.stdout


def test_a_task_its_delay_and_a_worker_in_another_process(folder: Path, usual_master: str | None) -> None:
    with worker(folder) as process:
        told = run_program(folder, "myapp.py").split()

    assert told[:3] == ["Hello", "John", "from"]
    ran_in, made_in = int(told[3]), int(told[4])
    assert len({ran_in, made_in, process.pid}) == 3, "producer, supervisor and engine are three processes"
    banner = (folder / "worker.log").read_text(encoding="utf-8")
    assert "myapp.hello" in banner
    assert (usual_master or str(folder / "jobmaster.db")) in banner


def test_jobs_that_were_enqueued_before_any_worker_ran_are_a_backlog(folder: Path) -> None:
    (folder / "producer.py").write_text(
        "from myapp import hello, jm\n"
        "results = jm.enqueue_many([hello.job(str(number)) for number in range(200)])\n"
        "print(results[0].id, results[-1].id, results[0].status)\n",
        encoding="utf-8",
    )
    (folder / "worker.log").write_text("no worker runs", encoding="utf-8")
    first, last, status = run_program(folder, "producer.py").split()
    assert status == "SavePending"

    (folder / "reader.py").write_text(
        "import sys\n"
        "from myapp import jm\n"
        f"print([jm.result(job).get(timeout=30).split()[1] for job in ({first!r}, {last!r})])\n",
        encoding="utf-8",
    )
    with worker(folder):
        assert run_program(folder, "reader.py").strip() == "['0', '199']"


def test_the_dashboard_lists_jobs_and_is_closed_by_default(folder: Path) -> None:
    (folder / "web.py").write_text(textwrap.dedent(WEB), encoding="utf-8")
    with worker(folder):
        closed, unknown, known = run_program(folder, "web.py").splitlines()

    assert (closed, unknown) == ("403", "401")
    assert known == "200 True True True"


def test_a_celery_program_runs_unchanged_but_for_its_import(folder: Path, usual_master: str | None) -> None:
    program = textwrap.dedent(PROJ).replace("{master}", usual_master or "sqlite:///proj.db")
    (folder / "proj.py").write_text(program, encoding="utf-8")
    with worker(folder, app="proj"):
        assert run_program(folder, "proj.py").splitlines() == ["5", "9", "done after 2 retries"]
