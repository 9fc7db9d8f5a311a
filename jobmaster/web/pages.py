"""The pages: each asks the public API a few questions and shows the answers."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, Response, request, url_for

from jobmaster.errors import StoreUnavailable
from jobmaster.web.job_filters import GROUPS, PAGE_SIZE, JobFilters, ask_page, group_counts, read_filters
from jobmaster.web.rendering import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.app import JobMaster
    from jobmaster.views import BucketInfo

LIVE_SECONDS: Final = 5


class Pages:
    """The views of one cluster."""

    def __init__(self, jm: JobMaster) -> None:
        self._jm = jm

    def add_to(self, blueprint: Blueprint) -> None:
        """Register the views."""
        blueprint.add_url_rule("/", "jobs", self.jobs)
        blueprint.add_url_rule("/job", "job", self.job)
        blueprint.add_url_rule("/workers", "workers", self.workers)
        blueprint.add_url_rule("/buckets", "buckets", self.buckets)

    def jobs(self) -> Response:
        """The list of jobs, newest first, with filters."""
        filters = read_filters(request.args)
        page = ask_page(self._jm, filters, limit=PAGE_SIZE)
        counts = self._counts(filters)
        workers = self._jm.workers.list()
        waits = any(job.status in GROUPS["waiting"] for job in page.jobs)
        return self._show(
            "jobs.html",
            page="jobs",
            title="Jobs",
            filters=filters,
            jobs=page.jobs,
            after=page.after,
            unlisted=page.unlisted,
            groups=tuple(GROUPS),
            counts=counts,
            nobody_works=waits and not any(worker.status.lives for worker in workers),
        )

    def job(self) -> Response:
        """One job. Its id is a parameter and no part of the path: ids that callers choose may hold any character."""
        job_id = request.args.get("id", "")
        job = self._jm.jobs.get(job_id) if job_id else None
        if job is None:
            return self._show("not_found.html", status=404, page="", title="No such job", job_id=job_id[:300])
        attempts = [attempt.redacted() for attempt in self._jm.jobs.attempts(job_id)]
        return self._show("job.html", page="jobs", title=job.task, job=job.redacted(), attempts=attempts)

    def workers(self) -> Response:
        """All workers that the master remembers."""
        workers = self._jm.workers.list()
        alive = [worker for worker in workers if worker.status.lives]
        return self._show(
            "workers.html",
            page="workers",
            title="Workers",
            workers=workers,
            alive=len(alive),
            slots=sum(worker.slots for worker in alive),
        )

    def buckets(self) -> Response:
        """All buckets, by lane."""
        buckets = self._jm.buckets.list()
        return self._show("buckets.html", page="buckets", title="Buckets", lanes=_by_lane(buckets), total=len(buckets))

    def _counts(self, filters: JobFilters) -> dict[str, int]:
        """The numbers on the tabs. None for a search in texts, which reads every job, and where it takes too long."""
        if filters.text:
            return {}
        try:
            return group_counts(self._jm.jobs.count(filters.query_of_all_statuses))
        except StoreUnavailable:
            return {}

    def _show(self, template: str, *, status: int = 200, **values: object) -> Response:
        now = datetime.now(UTC)
        live = request.args.get("live") == "1"
        values_of_link: dict[str, Any] = {**_parameters(), "live": None if live else "1"}
        switch = url_for(str(request.endpoint), **values_of_link)
        response = render(
            template, status=status, now=now, live=live, switch=switch, cluster=self._jm.cluster_id, **values
        )
        if live:
            response.headers["Refresh"] = str(LIVE_SECONDS)
        return response


def _parameters() -> dict[str, str]:
    """The parameters of this page that mean something, without the one that keeps it fresh."""
    names = (*JobFilters.__slots__, "id")
    return {name: request.args[name] for name in names if name in request.args}


def _by_lane(buckets: Sequence[BucketInfo]) -> list[tuple[str, int, list[BucketInfo]]]:
    """Each lane with its waiting jobs and its buckets, the highest priority first."""
    lanes: dict[str, list[BucketInfo]] = defaultdict(list)
    for bucket in buckets:
        lanes[bucket.lane].append(bucket)
    return [
        (lane, sum(bucket.depth for bucket in mine), sorted(mine, key=lambda bucket: (-bucket.priority, bucket.id)))
        for lane, mine in sorted(lanes.items())
    ]
