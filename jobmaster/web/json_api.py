"""The job list as JSON, read-only."""

from __future__ import annotations

import json
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request

from jobmaster.web.job_filters import PAGE_SIZE, WrongQuestion, ask_page, read_filters

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.views import JobInfo

MOST = 200

_LISTED = (
    "id", "status", "task", "lane", "priority", "created_at", "due_at", "started_at", "finished_at", "attempts",
    "failures", "worker", "reason",
)  # fmt: skip


class JsonApi:
    """`GET api/v1/jobs?status=&task=&lane=&text=&limit=&after=`: {"jobs": [...], "after": cursor or null}."""

    def __init__(self, jm: JobMaster) -> None:
        self._jm = jm

    def add_to(self, blueprint: Blueprint) -> None:
        """Register the view."""
        blueprint.add_url_rule("/api/v1/jobs", "api_jobs", self.jobs)

    def jobs(self) -> Response:
        """One page of jobs, newest first."""
        filters = read_filters(request.args)
        page = ask_page(self._jm, filters, limit=_limit())
        body = {"jobs": [_plain_job(job) for job in page.jobs], "after": page.after, "unlisted": page.unlisted}
        return Response(json.dumps(body), mimetype="application/json")


def _limit() -> int:
    text = request.args.get("limit", str(PAGE_SIZE))
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise WrongQuestion(f"limit is {text!r:.40}, but a page has 1 to {MOST} jobs.")
    return int(text)


def _plain_job(job: JobInfo) -> dict[str, Any]:
    return {name: _plain(getattr(job, name)) for name in _LISTED}


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.name.lower() if isinstance(value, int) else str(value)
    return value
