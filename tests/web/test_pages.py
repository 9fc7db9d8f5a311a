"""What visitors see."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from flask import Flask, url_for

from jobmaster.errors import ConfigurationError, SchemaError, StoreUnavailable
from jobmaster.model.states import BucketStatus, JobStatus, Priority
from jobmaster.model.worker import WorkerStatus
from jobmaster.views import AttemptInfo
from jobmaster.web import JobMasterWeb
from tests.web.cluster import NOW, Cluster, a_bucket, a_job, a_worker, an_error

HREF = re.compile(r'(?:href|action)="([^"]+)"')


def words(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_list_shows_each_job_with_its_status_in_words(client, cluster):
    cluster.jobs.jobs = [a_job(f"job-{status.value}", status) for status in JobStatus]

    page = words(client.get("/jobs/").text)

    for word in ("Accepted", "Held", "Assigned", "Queued", "Running", "Succeeded", "Failed", "Cancelled"):
        assert f"{word} shop.mail.receipt" in page
    assert "All 8" in page
    assert "Waiting 3" in page


def test_a_job_that_waits_after_a_failure_is_retrying_and_one_for_later_is_scheduled(client, cluster):
    cluster.jobs.jobs = [
        a_job("a", JobStatus.QUEUED, failures=1, task="one"),
        a_job("b", JobStatus.HELD_ON_MASTER, due_at=NOW + timedelta(hours=1), task="two"),
    ]

    page = words(client.get("/jobs/").text)

    assert "Retrying one" in page
    assert "Scheduled two" in page


def test_filters_of_the_address_become_the_question(client, cluster):
    client.get("/jobs/?status=waiting&task=shop.mail.receipt&lane=mail&text=7&after=cursor-1")

    query, limit, after = cluster.jobs.asked[-1]
    assert query.statuses == (JobStatus.SAVE_PENDING, JobStatus.ASSIGNED_TO_BUCKET, JobStatus.QUEUED)
    assert (query.task, query.lane, query.text) == ("shop.mail.receipt", "mail", "7")
    assert (limit, after) == (50, "cursor-1")


def test_filters_stay_in_the_links_and_the_cursor_only_in_the_one_to_older_jobs(client, cluster):
    cluster.jobs.jobs, cluster.jobs.after = [a_job()], "next-cursor"

    page = client.get("/jobs/?status=failed&lane=mail").text

    assert "/jobs/?status=failed&amp;lane=mail&amp;after=next-cursor" in HREF.findall(page)
    assert "/jobs/?status=succeeded&amp;lane=mail" in HREF.findall(page)


def test_the_last_page_has_no_older_one(client, cluster):
    cluster.jobs.jobs = [a_job()]

    assert "Older" not in client.get("/jobs/").text


@pytest.mark.parametrize("address", ["/jobs/?status=nonsense", "/jobs/?text=" + "x" * 301, "/jobs/api/v1/jobs?limit=0"])
def test_a_question_that_cannot_be_is_a_400(client, address):
    assert client.get(address).status_code == 400


def test_a_cursor_that_the_store_refuses_is_a_400_and_other_faults_are_not(client, cluster):
    cluster.jobs.trouble = ConfigurationError("after is 'zzz', which is no place in a list.")

    answer = client.get("/jobs/?after=zzz")

    assert answer.status_code == 400
    assert client.get("/jobs/api/v1/jobs?after=zzz").status_code == 400
    assert client.get("/jobs/").status_code == 503
    assert client.get("/jobs/api/v1/jobs").status_code == 503


def test_jobs_that_wait_without_a_worker_say_so(client, cluster):
    cluster.jobs.jobs = [a_job(status=JobStatus.QUEUED)]
    cluster.workers.rows = [a_worker(status=WorkerStatus.DEAD)]
    assert "no worker runs" in client.get("/jobs/").text

    cluster.workers.rows = [a_worker()]
    assert "no worker runs" not in client.get("/jobs/").text


def test_a_search_in_texts_counts_nothing_and_slow_counts_are_left_out(client, cluster, monkeypatch):
    def slow(query):
        raise StoreUnavailable("no answer in time")

    cluster.jobs.jobs = [a_job(status=JobStatus.FAILED)]
    assert "All 1 " in words(client.get("/jobs/?lane=mail").text)
    assert "All Waiting" in words(client.get("/jobs/?text=receipt").text)
    monkeypatch.setattr(cluster.jobs, "count", slow)
    page = client.get("/jobs/")

    assert page.status_code == 200
    assert "All Waiting" in words(page.text)
    assert "Failed shop.mail.receipt" in words(page.text)


def test_an_empty_list_teaches_how_to_enqueue(client):
    assert "hello.delay" in client.get("/jobs/").text
    assert "No job matches" in client.get("/jobs/?status=failed").text


def test_a_job_shows_arguments_result_and_times_without_secrets(client, cluster):
    cluster.jobs.jobs = [
        a_job(
            args=(7,),
            kwargs={"to": "john@example.org", "password": "hunter2", "db": "postgresql://shop:hunter2@db/shop"},
            result={"sent": True, "api_key": "hunter2"},
            metadata={"team": "billing", "auth_token": "hunter2"},
        )
    ]

    page = client.get("/jobs/job?id=receipt-7").text

    assert "john@example.org" in page
    assert "&#34;sent&#34;: true" in page
    assert "billing" in page
    assert "250 ms" in page
    assert "hunter2" not in page


def test_a_job_that_a_schedule_made_names_it(client, cluster):
    cluster.jobs.jobs = [
        a_job("of-a-schedule", schedule="01a20392-nightly", trigger="schedule"),
        a_job("by-hand", schedule="01a20392-nightly", trigger="run now"),
        a_job("of-a-call", trigger="call"),
    ]

    planned, by_hand, plain = (
        words(client.get(f"/jobs/job?id={job}").text) for job in ("of-a-schedule", "by-hand", "of-a-call")
    )
    assert "Schedule 01a20392-nightly Lane" in planned
    assert "Schedule 01a20392-nightly run now Lane" in by_hand
    assert "Schedule" not in plain


def test_a_moment_that_is_to_come_stands_behind_now(client, cluster):
    later, soon = NOW + timedelta(days=2), NOW - timedelta(seconds=30)
    cluster.jobs.jobs = [
        a_job("waits", JobStatus.HELD_ON_MASTER, due_at=later),
        a_job("is-due", JobStatus.HELD_ON_MASTER, due_at=soon),
        a_job("is-cancelled", JobStatus.CANCELLED, due_at=later),
    ]

    def way(job: str) -> list[str]:
        page = client.get(f"/jobs/job?id={job}").text
        return re.findall(r'class="step">(\w+)', page)

    assert way("waits") == ["Accepted", "Scheduled", "Due"]
    assert way("is-due") == ["Accepted", "Due", "Held"]
    assert way("is-cancelled") == ["Accepted", "Due", "Started", "Cancelled"]


def test_a_failed_job_shows_its_traceback_with_library_frames_folded(client, cluster):
    cluster.jobs.jobs = [a_job(status=JobStatus.FAILED, error=an_error("[Errno 111] no answer"), reason="timed out")]

    page = client.get("/jobs/job?id=receipt-7").text

    assert "[Errno 111] no answer" in page
    assert re.search(r"/srv/shop/mail\.py</span>:12 .*<strong>receipt</strong>", page)
    assert re.search(
        r"<details><summary>1 frame of libraries</summary>\s*<div[^>]*><div[^>]*><span[^>]*>/usr/lib", page
    )
    assert "timed out" in page
    assert "hunter2" not in page


def test_attempts_are_listed_with_their_errors(client, cluster):
    cluster.jobs.jobs = [a_job(attempts=2)]
    cluster.jobs.tries = [
        AttemptInfo(
            attempt=1,
            status=JobStatus.HELD_ON_MASTER,
            worker="shop-1",
            started_at=NOW,
            finished_at=NOW,
            error=an_error("token=hunter2 refused"),
        )
    ]

    page = client.get("/jobs/job?id=receipt-7").text

    assert "Attempt 1" in page
    assert "Retried" in page
    assert "hunter2" not in page


def test_an_unknown_job_is_a_404_that_explains(client):
    answer = client.get("/jobs/job?id=nobody")

    assert answer.status_code == 404
    assert "nobody" in answer.text
    assert client.get("/jobs/job").status_code == 404


@pytest.mark.parametrize(
    "job_id", ["a/b", "../..", "a?b=c#d", "//x", "ä ö", "<script>alert(1)</script>", "%2e%2e", 'quote"quote', "a&b;c"]
)
def test_any_id_that_a_caller_chose_is_reachable_from_the_list(client, cluster, job_id):
    cluster.jobs.jobs = [a_job(job_id, task="the.one")]
    link = next(link for link in HREF.findall(client.get("/jobs/").text) if "/job?" in link)

    answer = client.get(link.replace("&amp;", "&"))

    assert answer.status_code == 200
    assert "the.one" in answer.text


def test_what_users_wrote_is_never_markup(client, cluster):
    evil = "<script>alert(1)</script>"
    error = an_error(evil)
    cluster.jobs.jobs = [
        a_job(evil, JobStatus.FAILED, task=evil, lane=evil, reason=evil, kwargs={evil: evil}, result=evil, error=error)
    ]
    cluster.workers.rows = [a_worker(evil)]
    cluster.buckets.rows = [a_bucket(lane=evil, owner=evil)]

    for address in (
        f"/jobs/?text={evil}",
        f"/jobs/job?id={evil}",
        "/jobs/workers",
        "/jobs/buckets",
        "/jobs/job?id=" + evil[1:],
    ):
        assert "<script" not in client.get(address).text


def test_half_characters_and_nul_do_not_break_a_page(client, cluster):
    cluster.jobs.jobs = [a_job(kwargs={"text": "half \ud800 and \x00"}, result={1, 2}, args=(object(), 2**63))]

    answer = client.get("/jobs/job?id=receipt-7")

    assert answer.status_code == 200
    assert "\\ud800" in answer.text
    assert "9223372036854775808" in answer.text


def test_arguments_that_cannot_be_read_say_why(client, cluster):
    cluster.jobs.jobs = [a_job(args=None, kwargs=None, payload_error="pickled, and allow_pickle is off")]

    assert "allow_pickle is off" in client.get("/jobs/job?id=receipt-7").text


def test_a_long_payload_is_cut(client, cluster):
    cluster.jobs.jobs = [a_job(result="x" * 100_000)]

    page = client.get("/jobs/job?id=receipt-7").text

    assert len(page) < 40_000
    assert "more characters" in page


def test_workers_and_buckets_are_listed(client, cluster):
    cluster.workers.rows = [a_worker("shop-1"), a_worker("shop-2", WorkerStatus.DEAD)]
    cluster.buckets.rows = [
        a_bucket(1, priority=Priority.LOW, depth=4),
        a_bucket(2, status=BucketStatus.LOST, owner=None, priority=Priority.CRITICAL, depth=1000),
    ]

    workers, buckets = words(client.get("/jobs/workers").text), words(client.get("/jobs/buckets").text)

    assert "1 worker alive · 20 slots" in workers
    assert "Active shop-1 default, mail" in workers
    assert "Dead shop-2" in workers
    assert "mail 1,004 jobs waiting" in buckets
    assert buckets.index("Lost critical nobody") < buckets.index("Active low shop-1")


@pytest.mark.parametrize("trouble", [StoreUnavailable("db:5432 refused, password=hunter2"), SchemaError("too old")])
@pytest.mark.parametrize("address", ["/jobs/", "/jobs/job?id=receipt-7", "/jobs/api/v1/jobs"])
def test_a_master_that_does_not_answer_is_a_503_without_details(client, cluster, trouble, address):
    cluster.jobs.trouble = trouble

    answer = client.get(address)

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert "refused" not in answer.text
    assert "hunter2" not in answer.text


def test_errors_of_the_host_application_are_not_touched(cluster):
    app = Flask("host")
    JobMasterWeb(cluster).init_app(app)

    @app.get("/order")
    def order():
        raise StoreUnavailable("the host's own business")

    assert app.test_client().get("/order").status_code == 500


@pytest.mark.parametrize("address", ["/jobs/", "/jobs/job?id=x", "/jobs/workers", "/jobs/buckets", "/jobs/?status=x"])
def test_every_page_forbids_scripts_frames_and_caches(client, address):
    headers = client.get(address).headers

    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "unsafe-inline" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_no_page_needs_what_the_policy_forbids(client, cluster):
    cluster.jobs.jobs = [a_job(status=JobStatus.FAILED, error=an_error())]
    cluster.workers.rows, cluster.buckets.rows = [a_worker()], [a_bucket()]

    for address in ("/jobs/", "/jobs/job?id=receipt-7", "/jobs/workers", "/jobs/buckets", "/jobs/job?id=x"):
        page = client.get(address).text
        assert not re.search(r"<script|<style|\sstyle=|\son\w+=|https?://", page), address


def test_live_pages_ask_the_browser_to_come_back(client, cluster):
    page = client.get("/jobs/?lane=mail&live=1")

    assert page.headers["Refresh"] == "5"
    assert 'href="/jobs/?lane=mail"' in page.text
    assert "Refresh" not in client.get("/jobs/?lane=mail").headers


def test_parameters_that_flask_understands_are_not_passed_on(client):
    page = client.get("/jobs/?_external=1&_scheme=javascript&_anchor=x&_method=POST").text

    assert "javascript" not in page


@pytest.mark.parametrize("prefix", ["/jobs", "/a/deep/prefix", "/x"])
def test_every_link_stays_below_the_prefix_and_works(cluster, prefix):
    cluster.jobs.jobs, cluster.jobs.after = [a_job()], "c"
    app = Flask("host")
    JobMasterWeb(cluster, auth=lambda request: True).init_app(app, url_prefix=prefix)
    client = app.test_client()

    links = {
        link
        for page in ("/", "/workers", "/buckets", "/job?id=receipt-7")
        for link in HREF.findall(client.get(prefix + page).text)
    }

    assert len(links) > 10
    for link in links - {"#content"}:
        assert link.startswith(f"{prefix}/")
        assert client.get(link.replace("&amp;", "&"), buffered=True).status_code == 200


def test_a_mounted_application_keeps_its_mount_point(client, cluster):
    page = client.get("/jobs/", environ_overrides={"SCRIPT_NAME": "/mount"})

    assert 'href="/mount/jobs/workers"' in page.text


def test_two_clusters_fit_into_one_application():
    app = Flask("host")
    for name in ("shop", "mail"):
        JobMasterWeb(Cluster(cluster_id=name), auth=lambda request: True, name=f"jobs_{name}").init_app(
            app, url_prefix=f"/{name}"
        )
    client = app.test_client()

    assert "/mail/workers" in client.get("/mail/").text
    assert "/shop/workers" in client.get("/shop/").text
    with app.test_request_context():
        assert url_for("jobs_mail.jobs") == "/mail/"


def test_templates_and_filters_of_the_host_are_left_alone(cluster):
    app = Flask("host")
    before = set(app.jinja_env.filters)
    JobMasterWeb(cluster, auth=lambda request: True).init_app(app)

    assert set(app.jinja_env.filters) == before
    assert app.jinja_env.list_templates() == []


def test_the_json_list_has_plain_values(client, cluster):
    cluster.jobs.jobs, cluster.jobs.after = [a_job(kwargs={"password": "hunter2"})], "next"

    answer = client.get("/jobs/api/v1/jobs?limit=7&status=succeeded")

    job = answer.json["jobs"][0]
    assert (job["id"], job["status"], job["priority"]) == ("receipt-7", "Succeeded", "high")
    assert job["created_at"].endswith("+00:00")
    assert answer.json["after"] == "next"
    assert cluster.jobs.asked[-1][1] == 7
    assert "kwargs" not in job
