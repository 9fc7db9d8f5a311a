"""examples/flask_app as its README says: `flask --app app run` and `jobmaster worker -A app`, used by HTTP."""

from __future__ import annotations

import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.programs import free_port, program, wait_for

pytestmark = pytest.mark.backend("sqlite")

EXAMPLE = Path(__file__).parents[2] / "examples" / "flask_app"


class Visitor:
    """A browser without pictures: it follows redirects and returns the page's text."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str, **headers: str) -> str:
        return self._open(path, None, headers)

    def post(self, path: str, **form: str) -> str:
        return self._open(path, urllib.parse.urlencode(form).encode(), {})

    def is_there(self) -> bool:
        try:
            return bool(self.get("/"))
        except OSError:  # nobody listens yet, or it takes its time
            return False

    def _open(self, path: str, data: bytes | None, headers: dict[str, str]) -> str:
        request = urllib.request.Request(f"{self.address}{path}", data, headers)  # noqa: S310 - our own address
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - same
            self.address_of_last_page = answer.url
            return str(answer.read().decode())


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Visitor]:
    """The web application, started as the README says; its files are in the test's folder."""
    port = free_port()
    log = tmp_path / "flask.log"
    with program(
        "flask", "--app", "app", "run", "--port", str(port), folder=EXAMPLE, log=log, SHOP_FOLDER=str(tmp_path)
    ):
        visitor = Visitor(f"http://127.0.0.1:{port}")
        wait_for(visitor.is_there, log=log)
        yield visitor


def order(shop: Visitor, customer: str = "Ann") -> str:
    page = shop.post("/orders", customer=customer, item="Cake", pieces="3")
    assert f"3 × Cake for {customer}" in page
    return urllib.parse.urlsplit(shop.address_of_last_page).path


def test_an_order_waits_for_a_worker_and_gets_its_receipt(shop: Visitor, tmp_path: Path) -> None:
    page_of_order = order(shop)
    assert "waiting for a worker" in shop.get(page_of_order)
    assert "no worker runs" in shop.get("/jobs/")

    log = tmp_path / "worker.log"
    with program("jobmaster", "worker", "-A", "app", folder=EXAMPLE, log=log, SHOP_FOLDER=str(tmp_path)) as worker:
        wait_for(lambda: "written</strong>" in shop.get(page_of_order), log=log)

        assert "Total 17.70" in shop.get(page_of_order)
        job = shop.get("/jobs/job?id=receipt-1")
        assert "app.write_receipt" in job
        assert "&#34;17.70&#34;" in job
        assert "Succeeded" in job
        assert "Active" in shop.get("/jobs/workers")
        assert "receipt-1" in shop.get("/jobs/")

        second = order(shop, "Bob")
        wait_for(lambda: "Thank you, Bob" in shop.get(second), log=log)
    assert worker.returncode == 0, log.read_text()


def test_asking_twice_for_a_receipt_is_one_job(shop: Visitor) -> None:
    page_of_order = order(shop)

    shop.post(f"{page_of_order}/receipt")
    shop.post(f"{page_of_order}/receipt")

    assert len(re.findall(r'href="/jobs/job\?id=receipt-1"', shop.get("/jobs/"))) == 1


@pytest.mark.parametrize(
    "form",
    [
        {"customer": "", "item": "Cake", "pieces": "1"},
        {"customer": "Ann", "item": "Gold", "pieces": "1"},
        {"customer": "Ann", "item": "Tea", "pieces": "0"},
        {"customer": "Ann", "item": "Tea", "pieces": "1e9"},
    ],
)
def test_a_wrong_order_is_refused_and_makes_no_job(shop: Visitor, form: dict[str, str]) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        shop.post("/orders", **form)

    assert refusal.value.code == 400
    refusal.value.close()
    assert "No jobs yet" in shop.get("/jobs/")


def test_the_jobs_are_shown_to_this_machine_only(shop: Visitor) -> None:
    order(shop)

    with pytest.raises(urllib.error.HTTPError) as refusal:
        shop.get("/jobs/", **{"X-Forwarded-For": "203.0.113.7"})

    assert refusal.value.code == 403
    assert "receipt-1" not in refusal.value.read().decode()
    refusal.value.close()
