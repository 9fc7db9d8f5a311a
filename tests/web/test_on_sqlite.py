"""The dashboard over a real cluster on an SQLite file, with a worker that runs jobs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jobmaster import JobFailed, JobMaster
from jobmaster.web import JobMasterWeb

pytestmark = pytest.mark.backend("sqlite")

JOB_LINK = re.compile(r'href="(/jobs/job\?id=[^"]+)"')


@pytest.fixture
def jm(tmp_path: Path):
    app = JobMaster("shop", master=f"sqlite:///{tmp_path}/shop.db")
    yield app
    app.close()


def visitor(jm: JobMaster) -> FlaskClient:
    app = Flask("host")
    JobMasterWeb(jm, auth=lambda request: True).init_app(app)
    return app.test_client()


def test_every_job_stands_on_exactly_one_page(jm):
    @jm.task(name="work")
    def work(number: int) -> None: ...

    ids = {result.id for result in jm.enqueue_many([work.job(number) for number in range(120)])}
    client = visitor(jm)

    seen: list[str] = []
    address = "/jobs/"
    for expected in (50, 50, 20):
        page = client.get(address).text
        links = JOB_LINK.findall(page)
        assert len(links) == expected
        seen += [link.partition("id=")[2] for link in links]
        older = re.search(r'href="([^"]+)" rel="next"', page)
        address = older[1].replace("&amp;", "&") if older else ""

    assert address == ""
    assert len(seen) == len(set(seen)) == 120
    assert set(seen) == ids


def test_jobs_that_ran_show_how_it_went(jm):
    @jm.task(name="greet")
    def greet(name: str, password: str) -> str:
        return f"Hello {name}"

    @jm.task(name="break", max_retries=0, lane="bulk")
    def broken(address: str) -> None:
        raise RuntimeError(f"cannot reach {address}")

    with jm:
        good = greet.delay("John", password="hunter2")
        bad = broken.delay("postgresql://shop:hunter2@db/shop")
        good.get(timeout=20)
        with pytest.raises(JobFailed):
            bad.get(timeout=20)
        client = visitor(jm)
        workers = client.get("/jobs/workers").text
        buckets = client.get("/jobs/buckets").text

    assert "1</span> worker alive" in workers
    assert "bulk" in buckets
    page = client.get(f"/jobs/job?id={good.id}").text
    assert "Hello John" in page
    page = client.get(f"/jobs/job?id={bad.id}").text
    assert "cannot reach postgresql://shop:***@db/shop" in page
    assert "hunter2" not in page
    assert "test_on_sqlite.py" in page
    assert JOB_LINK.findall(client.get("/jobs/?status=failed").text) == [f"/jobs/job?id={bad.id}"]
    assert JOB_LINK.findall(client.get("/jobs/?lane=bulk").text) == [f"/jobs/job?id={bad.id}"]
    assert JOB_LINK.findall(client.get("/jobs/?task=greet").text) == [f"/jobs/job?id={good.id}"]
    assert JOB_LINK.findall(client.get("/jobs/?text=gree").text) == [f"/jobs/job?id={good.id}"]
    assert JOB_LINK.findall(client.get("/jobs/?status=cancelled").text) == []


@pytest.mark.parametrize("place", ["zzz", "'", "1,2", "%00", "9" * 99])
@pytest.mark.parametrize("page", ["/jobs/", "/jobs/api/v1/jobs"])
def test_a_place_that_a_visitor_made_up_is_a_400(jm, page, place):
    assert visitor(jm).get(f"{page}?after={place}").status_code == 400


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("lane=a%00b", 400),
        ("lane=a+b", 400),
        ("task=%00", 200),
        ("text=%25", 200),
        ("text=_%27--", 200),
        ("task=%F0%9F%8D%B0", 200),
    ],
)
def test_odd_filters_find_nothing(jm, query, code):
    jm.task(name="work")(lambda: None).delay()

    answer = visitor(jm).get(f"/jobs/?{query}")

    assert answer.status_code == code
    assert not JOB_LINK.findall(answer.text)


@pytest.mark.parametrize(
    "job_id", ["nobody", "%00", "\udcff", "x" * 3000, "' OR 1=1 --", "01890000-0000-7000-8000-000000000000"]
)
def test_ids_that_nobody_knows_are_not_found(jm, job_id):
    assert (
        visitor(jm).get("/jobs/job", query_string={"id": job_id.encode("utf-8", "replace").decode()}).status_code == 404
    )


def test_a_database_that_is_none_is_a_503(tmp_path: Path):
    (tmp_path / "not.db").write_bytes(b"this is a text file, not a database" * 100)
    jm = JobMaster("shop", master=f"sqlite:///{tmp_path}/not.db")

    answer = visitor(jm).get("/jobs/")

    assert answer.status_code == 503
    assert str(tmp_path) not in answer.text
    jm.close()
