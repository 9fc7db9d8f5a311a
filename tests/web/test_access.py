"""Nobody sees a job unless the program said who may."""

from __future__ import annotations

import base64

import pytest
from flask import Flask

from jobmaster.errors import ConfigurationError
from jobmaster.web import JobMasterWeb
from tests.web.cluster import Cluster, a_job

PAGES = ["/jobs/", "/jobs/job?id=receipt-7", "/jobs/workers", "/jobs/buckets", "/jobs/api/v1/jobs"]
LOCAL = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:5000"}


def site(**options):
    cluster = Cluster()
    cluster.jobs.jobs = [a_job(task="secret.task")]
    app = Flask("host")
    app.register_blueprint(JobMasterWeb(cluster, **options).blueprint)
    return app.test_client()


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize("page", PAGES)
def test_without_auth_every_page_is_closed_to_this_machine_too(page):
    answer = site().get(page, environ_overrides=LOCAL)

    assert answer.status_code == 403
    assert "secret.task" not in answer.text
    assert "shop" not in answer.text


def test_the_closed_page_says_how_to_open_it():
    answer = site().get("/jobs/")

    for way in ("auth=(&#34;admin&#34;", "auth=lambda request", "JobMasterWeb.OPEN", "auth=("):
        assert way in answer.text.replace('"', "&#34;")


def test_the_style_of_the_closed_page_is_served():
    answer = site().get("/jobs/static/style.css", buffered=True)

    assert answer.status_code == 200
    assert answer.mimetype == "text/css"


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    "credentials", ["ann:wrong", "bob:s3cret", "ann:", ":s3cret", "ann", "ann:s3cret ", "ann:s3crét", ""]
)
def test_a_wrong_name_or_password_is_asked_again(page, credentials):
    answer = site(auth=("ann", "s3cret")).get(page, headers=basic(credentials))

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert "secret.task" not in answer.text


@pytest.mark.parametrize(
    "header", ["", "Basic", "Basic %%%", "Bearer s3cret", "Digest username=ann", "Basic " + "A" * 3]
)
def test_a_damaged_header_is_no_password(header):
    assert site(auth=("ann", "s3cret")).get("/jobs/", headers={"Authorization": header}).status_code == 401


@pytest.mark.parametrize("pair", [("ann", "s3cret"), ("änn", "pässwörd:with:colons")])
def test_the_right_name_and_password_open_it(pair):
    answer = site(auth=pair).get("/jobs/", headers=basic(":".join(pair)))

    assert answer.status_code == 200
    assert "secret.task" in answer.text


@pytest.mark.parametrize("answer", [False, None, 0, "", "yes", 1, object()])
def test_a_function_opens_it_only_by_true(answer):
    assert site(auth=lambda request: answer).get("/jobs/").status_code == 403


def test_a_function_is_given_the_request():
    client = site(auth=lambda request: request.headers.get("X-Role") == "admin")

    assert client.get("/jobs/", headers={"X-Role": "admin"}).status_code == 200
    assert client.get("/jobs/", headers={"X-Role": "guest"}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:5000", "localhost", "[::1]:5000"])
def test_open_lets_this_machine_in(host):
    answer = site(auth=JobMasterWeb.OPEN).get("/jobs/", environ_overrides=LOCAL | {"HTTP_HOST": host})

    assert answer.status_code == 200


@pytest.mark.parametrize(
    "request_of_a_stranger",
    [
        LOCAL | {"REMOTE_ADDR": "10.0.0.7"},
        LOCAL | {"REMOTE_ADDR": ""},
        LOCAL | {"HTTP_HOST": "attacker.example"},
        LOCAL | {"HTTP_HOST": "127.0.0.1.attacker.example"},
        LOCAL | {"HTTP_X_FORWARDED_FOR": "10.0.0.7"},
        LOCAL | {"HTTP_FORWARDED": "for=10.0.0.7"},
        LOCAL | {"HTTP_X_REAL_IP": "10.0.0.7"},
    ],
)
def test_open_refuses_other_machines_proxies_and_foreign_names(request_of_a_stranger):
    answer = site(auth="open").get("/jobs/", environ_overrides=request_of_a_stranger)

    assert answer.status_code in {400, 403}
    assert "secret.task" not in answer.text


@pytest.mark.parametrize(
    "auth", [("ann",), ("ann", ""), ("", "x"), ("ann", None), "admin:pw", 7, ["ann", "pw"], True, {}]
)
def test_an_auth_that_says_nothing_is_refused_at_start(auth):
    with pytest.raises(ConfigurationError, match=r"Give a function .* pair .* JobMasterWeb\.OPEN") as refusal:
        JobMasterWeb(Cluster(), auth=auth)
    assert "pw" not in str(refusal.value)


def test_init_app_may_say_who_instead():
    app = Flask("host")
    JobMasterWeb(Cluster()).init_app(app, url_prefix="/admin/queue", auth=("ann", "pw"))

    assert app.test_client().get("/admin/queue/", headers=basic("ann:pw")).status_code == 200
    assert app.test_client().get("/admin/queue/").status_code == 401


def test_nothing_can_be_changed_through_it():
    client = site(auth=lambda request: True)
    rules = client.application.url_map.iter_rules()

    assert {method for rule in rules for method in rule.methods} == {"GET", "HEAD", "OPTIONS"}


def test_an_error_of_the_program_s_function_opens_nothing():
    def broken(request):
        raise KeyError("user")

    assert site(auth=broken).get("/jobs/").status_code == 500
