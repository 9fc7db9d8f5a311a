"""Log lines: text and JSON, with the job's fields, without secrets, whatever somebody logs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from jobmaster.context import JobContext, enter_job, leave_job, running_job
from jobmaster.errors import ConfigurationError
from jobmaster.model.ids import JobKey
from jobmaster.model.job import Envelope
from jobmaster.model.run import Run
from jobmaster.observe.events import event_of
from jobmaster.observe.logs import configure_logs


class Written(NamedTuple):
    """A stream that logs are written to."""

    stream: io.StringIO

    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    def json(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.lines()[-1])
        return told


@pytest.fixture
def written() -> Iterator[Written]:
    """Whatever `configure_logs` changes is put back."""
    root, others = logging.getLogger(), logging.getLogger("asyncio")
    levels = root.level, others.level
    yield Written(io.StringIO())
    for handler in [handler for handler in root.handlers if handler.name == "jobmaster"]:
        root.removeHandler(handler)
    root.setLevel(levels[0])
    others.setLevel(levels[1])


def a_job() -> JobContext:
    envelope = Envelope(task="shop.mail", call=b"", created_us=1, scheduled_us=1, custom_id="0191-job")
    run = Run(JobKey(b"k" * 16), envelope, b"", 2, 0, 3, 1, None, None, None, "w")
    return JobContext(run, args=(), kwargs={})


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_line_inside_of_a_job_names_it(written: Written, format: str) -> None:
    configure_logs(level="info", format=format, current=running_job, stream=written.stream)
    token = enter_job(a_job())
    logging.getLogger("mine").info("inside")
    leave_job(token)
    logging.getLogger("mine").info("outside")

    inside, outside = written.lines()
    if format == "json":
        told = json.loads(inside)
        assert (told["job_id"], told["task"], told["attempt"]) == ("0191-job", "shop.mail", 2)
        assert "job_id" not in json.loads(outside)
    else:
        assert inside.endswith("inside [job 0191-job shop.mail #2]")
        assert outside.endswith("outside")


def test_the_contexts_own_lines_have_their_event_and_fields(written: Written) -> None:
    configure_logs(level="info", format="json", current=running_job, stream=written.stream)
    a_job().log("half way", percent=50)
    log = written.json()
    a_job().progress(3, 10, "rows")
    progress = written.json()

    assert (log["event"], log["message"], log["fields"], log["job_id"]) == (
        "job.log", "half way", {"percent": 50}, "0191-job",
    )  # fmt: skip
    assert (progress["event"], progress["fields"]) == ("job.progress", {"done": 3, "total": 10, "note": "rows"})


def test_our_own_lines_are_events_with_fields(written: Written) -> None:
    configure_logs(level="info", format="json", stream=written.stream)
    logging.getLogger("jobmaster.engine").info("bucket_lost bucket=%d lane=%s share=%s", 7, "mail", "0.5")

    told = written.json()
    assert (told["event"], told["fields"]) == ("bucket_lost", {"bucket": 7, "lane": "mail", "share": 0.5})
    assert told["level"] == "INFO"
    assert told["time"].endswith("Z")


def test_lines_of_other_peoples_code_are_left_alone(written: Written) -> None:
    configure_logs(level="info", format="json", stream=written.stream)
    logging.getLogger("shop").info("bucket_lost bucket=7 password=x")

    told = written.json()
    assert told["message"] == "bucket_lost bucket=7 password=x"
    assert "event" not in told
    assert "fields" not in told


@pytest.mark.parametrize("format", ["text", "json"])
def test_secrets_are_hidden_in_our_own_lines(written: Written, format: str) -> None:
    configure_logs(level="info", format=format, stream=written.stream)
    logger = logging.getLogger("jobmaster.x")
    logger.info("connecting url=postgresql://u:hunter2@host/db", extra={"fields": {"token": "hunter2", "n": 1}})
    try:
        raise RuntimeError("no route to nats://u:hunter2@host")
    except RuntimeError:
        logger.exception("failed")

    text = written.stream.getvalue()
    assert "hunter2" not in text
    assert "***" in text
    assert "RuntimeError" in text


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError("no words")

    __str__ = __repr__


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize(
    ("message", "arguments", "fields", "part"),
    [
        ("%d pieces", ("three",), None, "pieces"),
        ("lone \ud800 surrogate", (), None, "surrogate"),
        ("with fields", (), {"x": Unprintable(), "y": {1, 2}, "z": b"\xff"}, "with fields"),
        ("fields are no mapping", (), [1], "no mapping"),
        ("a\nb\x00c", (), None, "a"),
    ],
    ids=["format", "surrogate", "objects", "list", "control"],
)
def test_nothing_that_is_logged_breaks_the_log(
    *, written: Written, format: str, message: str, arguments: tuple[Any, ...], fields: object, part: str
) -> None:
    handler = configure_logs(level="info", format=format, stream=written.stream)
    failed: list[logging.LogRecord] = []
    handler.handleError = failed.append  # type: ignore[method-assign]
    record = logging.LogRecord("jobmaster.x", logging.INFO, "f.py", 1, message, arguments, None)
    record.fields = fields

    handler.handle(record)

    assert failed == []
    assert part in written.stream.getvalue()


def test_configuring_twice_writes_once(written: Written) -> None:
    for _ in range(2):
        configure_logs(level="warning", format="text", stream=written.stream)
    logging.getLogger("x").info("not this")
    logging.getLogger("x").warning("this")

    assert [line.rpartition(" ")[2] for line in written.lines()] == ["this"]


@pytest.mark.parametrize(("level", "format", "part"), [("loud", "text", "'loud'"), ("info", "xml", "'xml'")])
def test_unknown_levels_and_formats_are_refused(level: str, format: str, part: str) -> None:
    with pytest.raises(ConfigurationError, match=part):
        configure_logs(level=level, format=format)


def test_an_event_keeps_its_traceback_as_text() -> None:
    record = logging.LogRecord("mine", logging.ERROR, "f.py", 1, "it failed", None, None)

    assert event_of(record, exception="Traceback ...").exception == "Traceback ..."
