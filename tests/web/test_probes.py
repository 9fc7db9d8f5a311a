"""healthz and readyz of the program that shows the dashboard: open to everybody, and silent about the cluster."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jobmaster import JobMaster
from jobmaster.errors import SchemaError, StoreUnavailable
from jobmaster.web import JobMasterWeb, probes
from tests.web.cluster import Cluster

SECRET = "postgresql://shop:hunter2@db.internal/shop"


class Client:
    """Counts questions, and answers as the test says."""

    def __init__(self) -> None:
        self.asked = 0
        self.trouble: Exception | None = None

    def ask(self, _question: object) -> int:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        return 1


def site(client: object, **options: object) -> FlaskClient:
    cluster = Cluster()
    cluster.client = client  # type: ignore[attr-defined]
    app = Flask("host")
    app.register_blueprint(JobMasterWeb(cluster, **options).blueprint)  # type: ignore[arg-type]
    return app.test_client()


@pytest.mark.parametrize("options", [{}, {"auth": ("ann", "s3cret")}, {"auth": lambda request: False}])
def test_nobody_has_to_log_in(options: dict[str, object]) -> None:
    visitor = site(Client(), **options)

    answers = [visitor.get(f"/jobs/{page}") for page in ("healthz", "readyz")]

    assert [(one.status_code, one.json) for one in answers] == [(200, {"ok": True})] * 2
    assert answers[0].headers["Cache-Control"] == "no-store"
    assert visitor.get("/jobs/").status_code in {401, 403}


def test_alive_asks_no_store_and_says_yes_while_it_is_away() -> None:
    client = Client()
    client.trouble = StoreUnavailable(SECRET)
    visitor = site(client)

    assert visitor.get("/jobs/healthz").status_code == 200
    assert client.asked == 0


@pytest.mark.parametrize(
    ("trouble", "part"),
    [
        (StoreUnavailable(SECRET), "does not answer"),
        (SchemaError(SECRET), "cannot be used"),
        (RuntimeError(SECRET), "could not be asked"),
    ],
    ids=["away", "schema", "driver"],
)
def test_not_ready_says_why_in_words_and_names_no_place(trouble: Exception, part: str) -> None:
    client = Client()
    client.trouble = trouble

    answer = site(client).get("/jobs/readyz")

    assert (answer.status_code, answer.get_json()["ok"]) == (503, False)
    assert part in answer.get_json()["why"]
    assert "hunter2" not in answer.text
    assert "db.internal" not in answer.text


@pytest.mark.parametrize("page", ["healthz", "readyz"])
def test_only_get_and_head_are_answered(page: str) -> None:
    visitor = site(Client())

    head = visitor.head(f"/jobs/{page}")
    others = [visitor.open(f"/jobs/{page}", method=name).status_code for name in ("POST", "PUT", "DELETE", "OPTIONS")]

    assert (head.status_code, head.data) == (200, b"")
    assert others == [405] * 4


def test_many_who_ask_at_once_are_one_question() -> None:
    client = Client()
    visitor = site(client)
    threads = [
        threading.Thread(target=visitor.application.test_client().get, args=("/jobs/readyz",)) for _ in range(50)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert client.asked == 1


def test_an_answer_is_asked_for_anew_when_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(probes, "time", SimpleNamespace(monotonic=lambda: now))
    client = Client()
    visitor = site(client)
    assert visitor.get("/jobs/readyz").status_code == 200

    client.trouble = StoreUnavailable(SECRET)
    still = visitor.get("/jobs/readyz")
    now += probes.FRESH
    later = visitor.get("/jobs/readyz")

    assert (still.status_code, later.status_code) == (200, 503)


def test_on_a_real_master(tmp_path: object) -> None:
    jm = JobMaster("probed", folder=str(tmp_path), master="sqlite:///jobmaster.db")
    app = Flask("host")
    JobMasterWeb(jm).init_app(app)
    try:
        assert app.test_client().get("/jobs/readyz").json == {"ok": True}
    finally:
        jm.close()
