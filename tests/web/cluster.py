"""A cluster as the dashboard sees it, made of plain answers, so that every status and every trouble can be arranged."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from jobmaster.model.states import BucketStatus, JobStatus, Priority, WorkerMode
from jobmaster.model.worker import WorkerStatus
from jobmaster.views import AttemptInfo, BucketInfo, JobError, JobInfo, JobPage, JobQuery, WorkerInfo

NOW = datetime.now(UTC)

TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/mail.py", line 12, in receipt
    send(order)
  File "/usr/lib/python3.11/smtplib.py", line 341, in connect
    self.sock = self._get_socket(host, port)
ConnectionRefusedError: [Errno 111] postgresql://shop:hunter2@db/shop refused
"""


def a_job(job_id: str = "receipt-7", status: JobStatus = JobStatus.SUCCEEDED, **values: object) -> JobInfo:
    start = NOW - timedelta(seconds=90)
    facts: dict[str, object] = {
        "task": "shop.mail.receipt", "lane": "mail", "priority": Priority.HIGH, "created_at": start,
        "scheduled_at": start, "due_at": start, "args": (), "kwargs": {},
    }  # fmt: skip
    if status.is_final:
        facts |= {"started_at": start + timedelta(milliseconds=250), "finished_at": start + timedelta(seconds=2)}
    return JobInfo(id=job_id, status=status, **{**facts, **values})


def an_error(message: str = "no answer") -> JobError:
    return JobError(type="ConnectionRefusedError", message=message, traceback=TRACEBACK)


def a_worker(name: str = "shop-1", status: WorkerStatus = WorkerStatus.ACTIVE) -> WorkerInfo:
    return WorkerInfo(
        id=1, name=name, status=status, mode=WorkerMode.FULL, agent="standalone", lanes=("default", "mail"),
        host="web-1", pid=4711, slots=20, version="0.1.0", started_at=NOW, renewed_at=NOW, lease_until=NOW,
    )  # fmt: skip


def a_bucket(bucket_id: int = 1, **values: object) -> BucketInfo:
    facts: dict[str, object] = {
        "agent": "standalone", "lane": "mail", "priority": Priority.MEDIUM, "status": BucketStatus.ACTIVE,
        "epoch": 3, "owner": "shop-1", "depth": 17,
    }  # fmt: skip
    return BucketInfo(id=bucket_id, **{**facts, **values})


@dataclass
class Jobs:
    jobs: list[JobInfo] = field(default_factory=list)
    tries: list[AttemptInfo] = field(default_factory=list)
    trouble: Exception | None = None
    after: str | None = None
    asked: list[tuple[JobQuery | None, int, str | None]] = field(default_factory=list)

    def list(self, query: JobQuery | None = None, limit: int = 50, after: str | None = None) -> JobPage:
        self._fail()
        self.asked.append((query, limit, after))
        return JobPage(jobs=tuple(self.jobs), after=self.after)

    def count(self, query: JobQuery | None = None) -> dict[JobStatus, int]:
        self._fail()
        counts: dict[JobStatus, int] = {}
        for job in self.jobs:
            counts[job.status] = counts.get(job.status, 0) + 1
        return counts

    def get(self, job_id: str) -> JobInfo | None:
        self._fail()
        return next((job for job in self.jobs if job.id == job_id), None)

    def attempts(self, job_id: str) -> list[AttemptInfo]:
        return self.tries

    def _fail(self) -> None:
        if self.trouble is not None:
            raise self.trouble


@dataclass
class Rows:
    rows: list[object] = field(default_factory=list)

    def list(self) -> list[object]:
        return self.rows


@dataclass
class Cluster:
    """What `JobMasterWeb` needs of a JobMaster."""

    cluster_id: str = "shop"
    jobs: Jobs = field(default_factory=Jobs)
    workers: Rows = field(default_factory=Rows)
    buckets: Rows = field(default_factory=Rows)
