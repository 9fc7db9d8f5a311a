"""What people ask a cluster: `jm.jobs`, `jm.workers`, `jm.buckets`. Each method has a twin for event loops, `a...`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from jobmaster.errors import ConfigurationError, NotRegistered, SerializationError
from jobmaster.model.durations import as_seconds
from jobmaster.model.ids import JobKey, parse_key
from jobmaster.model.states import CancelOutcome, JobStatus
from jobmaster.options import moment_us, read_lane, read_priority
from jobmaster.ports import query as port
from jobmaster.presenting import attempt_info, bucket_info, job_info, worker_info
from jobmaster.views import AttemptInfo, BucketInfo, JobInfo, JobPage, JobQuery, WorkerInfo, WorkerReply

if TYPE_CHECKING:
    from jobmaster.client import Client
    from jobmaster.gateway import Gateway
    from jobmaster.model.job import JobRecord
    from jobmaster.model.worker import WorkerRecord

MOST_LISTED: Final = 1_000
ASK_AGAIN_EVERY: Final = 0.05


class Jobs:
    """Questions about jobs, and what people do with single ones. `job_id` is the id of a `Result`, or one of your own.

    Every method raises `StoreUnavailable` where the master does not answer; those that change a job raise
    `ClusterArchived` where the cluster can be read only.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self, query: JobQuery | None = None, limit: int = 50, after: str | None = None) -> JobPage:
        """A page of jobs, newest first.

        What schedules have planned ahead (`jm.schedules.next`) is listed only where the query names the status that it
        waits in, HeldOnMaster or Queued.

        Args:
            query: which ones; None: all.
            limit: how many at most, 1 to 1,000.
            after: `JobPage.after` of the page before.

        Raises:
            ConfigurationError: the limit, or a value of the query, cannot be.
            StoreUnavailable: the master does not answer.
        """
        return self._client.ask(lambda gate: self._list(gate, query, limit, after))

    async def alist(self, query: JobQuery | None = None, limit: int = 50, after: str | None = None) -> JobPage:
        """`list` for a running event loop."""
        return await self._client.aask(lambda gate: self._list(gate, query, limit, after))

    def get(self, job_id: str) -> JobInfo | None:
        """One job with its arguments and result; None: nobody knows the id."""
        return self._client.ask(lambda gate: self._get(gate, job_id))

    async def aget(self, job_id: str) -> JobInfo | None:
        """`get` for a running event loop."""
        return await self._client.aask(lambda gate: self._get(gate, job_id))

    def count(self, query: JobQuery | None = None) -> dict[JobStatus, int]:
        """How many jobs there are in each status, under the query."""
        return self._client.ask(lambda gate: self._count(gate, query))

    async def acount(self, query: JobQuery | None = None) -> dict[JobStatus, int]:
        """`count` for a running event loop."""
        return await self._client.aask(lambda gate: self._count(gate, query))

    def attempts(self, job_id: str) -> Sequence[AttemptInfo]:
        """The recorded attempts of a job, first to last: those that failed, were repeated or recovered."""
        return self._client.ask(lambda gate: self._attempts(gate, job_id))

    async def aattempts(self, job_id: str) -> Sequence[AttemptInfo]:
        """`attempts` for a running event loop."""
        return await self._client.aask(lambda gate: self._attempts(gate, job_id))

    def retry(self, job_id: str) -> bool:
        """Run an ended job again, with its retries as new. False: it has not ended, or nobody knows it."""
        key = self._writable(job_id)
        return self._client.ask(lambda gate: gate.store.requeue(key))

    async def aretry(self, job_id: str) -> bool:
        """`retry` for a running event loop."""
        key = self._writable(job_id)
        return await self._client.aask(lambda gate: gate.store.requeue(key))

    def cancel(self, job_id: str) -> CancelOutcome:
        """Cancel a job: see `Result.cancel`."""
        key = self._writable(job_id)
        return self._client.ask(lambda gate: gate.cancel(key))

    async def acancel(self, job_id: str) -> CancelOutcome:
        """`cancel` for a running event loop."""
        key = self._writable(job_id)
        return await self._client.aask(lambda gate: gate.cancel(key))

    def reschedule(self, job_id: str, when: datetime) -> bool:
        """Give a waiting job another moment. False: it is too late for that.

        Args:
            job_id: the job.
            when: an aware datetime.

        Raises:
            ConfigurationError: `when` is no aware datetime.
        """
        key, due_us = self._writable(job_id), moment_us(when, "when")
        return self._client.ask(lambda gate: gate.store.reschedule(key, due_us))

    async def areschedule(self, job_id: str, when: datetime) -> bool:
        """`reschedule` for a running event loop."""
        key, due_us = self._writable(job_id), moment_us(when, "when")
        return await self._client.aask(lambda gate: gate.store.reschedule(key, due_us))

    def _writable(self, job_id: str) -> JobKey:
        self._client.require_writable()
        return parse_key(job_id)[0]

    async def _list(self, gate: Gateway, query: JobQuery | None, limit: int, after: str | None) -> JobPage:
        if not 1 <= limit <= MOST_LISTED:
            raise ConfigurationError(f"limit is {limit!r}, but a page has 1 to {MOST_LISTED} jobs; `after` has more.")
        asked = await _port_query(gate, query)
        if asked is None:
            return JobPage(jobs=())
        if asked.statuses is None:  # runs that a schedule has planned ahead would fill the first pages
            asked = msgspec.structs.replace(
                asked, not_ahead_of_us=time.time_ns() // 1_000 + await gate.clock_ahead_us()
            )
        page = await gate.questions.list_jobs(asked, limit=limit, after=after)
        names = await _worker_names(gate, [job.worker for job in page.jobs])
        jobs = tuple(job_info(job, names) for job in page.jobs)
        return JobPage(jobs=jobs, after=page.after, unlisted=page.unlisted)

    async def _get(self, gate: Gateway, job_id: str) -> JobInfo | None:
        record = await gate.questions.get_job(parse_key(job_id)[0])
        if record is None:
            return None
        names = await _worker_names(gate, [record.worker])
        return job_info(record, names, **self._payload(record))

    async def _count(self, gate: Gateway, query: JobQuery | None) -> dict[JobStatus, int]:
        asked = await _port_query(gate, query)
        return {} if asked is None else await gate.questions.count_jobs(asked)

    async def _attempts(self, gate: Gateway, job_id: str) -> Sequence[AttemptInfo]:
        records = await gate.questions.job_attempts(parse_key(job_id)[0])
        workers = await _workers_by_id(gate, [record.worker for record in records])
        return tuple(attempt_info(record, workers) for record in records)

    def _payload(self, record: JobRecord) -> dict[str, Any]:
        """Arguments, metadata and result as plain data; what cannot be read is said, not raised."""
        shown: dict[str, Any] = {}
        codec = self._client.codec
        try:
            if record.envelope is not None:
                shown["metadata"] = record.envelope.metadata
                if record.envelope.is_data:
                    shown["args"], shown["kwargs"] = (), codec.decode_value(record.envelope.call, what="msg_data")
                else:
                    shown["args"], shown["kwargs"] = codec.decode_call(record.envelope.call)
            if record.result is not None:
                shown["result"] = codec.decode_value(record.result, what="result")
        except SerializationError as error:
            shown["payload_error"] = str(error)
        return shown


class Workers:
    """Questions and orders to workers. An order without names is for all living ones.

    Orders return one reply for each worker that was meant, whether it answered within `timeout` (seconds or timedelta)
    or not. Every method raises `StoreUnavailable` where the master does not answer.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self) -> Sequence[WorkerInfo]:
        """All workers that the master remembers, living ones first."""
        return self._client.ask(_list_workers)

    async def alist(self) -> Sequence[WorkerInfo]:
        """`list` for a running event loop."""
        return await self._client.aask(_list_workers)

    def ping(self, *names: str, timeout: float | timedelta = 5) -> Sequence[WorkerReply]:
        """Ask workers for a sign of life, and wait for it up to `timeout` (seconds or timedelta).

        Raises:
            NotRegistered: no living worker has one of the names.
        """
        return self._send("ping", names, {}, timeout)

    async def aping(self, *names: str, timeout: float | timedelta = 5) -> Sequence[WorkerReply]:
        """`ping` for a running event loop."""
        return await self._asend("ping", names, {}, timeout)

    def pause(self, *names: str, timeout: float | timedelta = 5) -> Sequence[WorkerReply]:
        """Have workers start nothing more until `resume`; what runs goes on. Raises as `ping`."""
        return self._send("pause", names, {}, timeout)

    async def apause(self, *names: str, timeout: float | timedelta = 5) -> Sequence[WorkerReply]:
        """`pause` for a running event loop."""
        return await self._asend("pause", names, {}, timeout)

    def resume(self, *names: str, timeout: float | timedelta = 5) -> Sequence[WorkerReply]:
        """Have paused workers start jobs again. Raises as `ping`."""
        return self._send("resume", names, {}, timeout)

    async def aresume(self, *names: str, timeout: float | timedelta = 5) -> Sequence[WorkerReply]:
        """`resume` for a running event loop."""
        return await self._asend("resume", names, {}, timeout)

    def stop(self, *names: str, timeout: float | timedelta = 5) -> Sequence[WorkerReply]:
        """Have workers stop gracefully; the reply says that they began to. Raises as `ping`."""
        return self._send("stop", names, {}, timeout)

    async def astop(self, *names: str, timeout: float | timedelta = 5) -> Sequence[WorkerReply]:
        """`stop` for a running event loop."""
        return await self._asend("stop", names, {}, timeout)

    def set_concurrency(self, slots: int, *names: str, timeout: float | timedelta = 5) -> Sequence[WorkerReply]:
        """Give workers another number of slots (1 to 10,000) until they restart. Raises as `ping`."""
        return self._send("concurrency", names, {"slots": slots}, timeout)

    async def aset_concurrency(self, slots: int, *names: str, timeout: float | timedelta = 5) -> Sequence[WorkerReply]:
        """`set_concurrency` for a running event loop."""
        return await self._asend("concurrency", names, {"slots": slots}, timeout)

    def revoke(self, jobs: str | Sequence[str], *names: str, timeout: float | timedelta = 5) -> Sequence[WorkerReply]:
        """Have workers end these jobs (ids) where they wait or run; the reply's `revoked` names those it had.

        An order to workers that live now: one that begins later does not know of it. `jm.jobs.cancel` is for good.
        Raises as `ping`.
        """
        return self._send("revoke", names, {"jobs": _ids(jobs)}, timeout)

    async def arevoke(
        self, jobs: str | Sequence[str], *names: str, timeout: float | timedelta = 5
    ) -> Sequence[WorkerReply]:
        """`revoke` for a running event loop."""
        return await self._asend("revoke", names, {"jobs": _ids(jobs)}, timeout)

    def _send(
        self, verb: str, names: Sequence[str], args: Mapping[str, object], timeout: float | timedelta
    ) -> Sequence[WorkerReply]:
        limit = as_seconds(timeout, "timeout")
        return self._client.ask(lambda gate: _command(gate, verb, names, args, limit), may_take_long=True)

    async def _asend(
        self, verb: str, names: Sequence[str], args: Mapping[str, object], timeout: float | timedelta
    ) -> Sequence[WorkerReply]:
        limit = as_seconds(timeout, "timeout")
        return await self._client.aask(lambda gate: _command(gate, verb, names, args, limit))


class Buckets:
    """Questions about buckets. They raise `StoreUnavailable` where the master does not answer."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self) -> Sequence[BucketInfo]:
        """All buckets, with owner, status and depth."""
        return self._client.ask(_list_buckets)

    async def alist(self) -> Sequence[BucketInfo]:
        """`list` for a running event loop."""
        return await self._client.aask(_list_buckets)


async def _list_workers(gate: Gateway) -> Sequence[WorkerInfo]:
    return tuple(worker_info(record) for record in await gate.questions.list_workers())


async def _list_buckets(gate: Gateway) -> Sequence[BucketInfo]:
    buckets = await gate.questions.list_buckets()
    names = await _worker_names(gate, [bucket.owner for bucket in buckets])
    return tuple(bucket_info(bucket, names) for bucket in buckets)


async def _command(
    gate: Gateway, verb: str, names: Sequence[str], args: Mapping[str, object], timeout: float
) -> Sequence[WorkerReply]:
    """Send a command to living workers and collect answers until all have come or the time is over."""
    living = [worker for worker in await gate.questions.list_workers() if worker.status.lives]
    missing = sorted(set(names) - {worker.name for worker in living})
    if missing:
        known = ", ".join(sorted(worker.name for worker in living)) or "none"
        raise NotRegistered(f"No living worker is called {missing[0]!r}. Living workers: {known}.")
    meant = [worker for worker in living if not names or worker.name in names]
    if not meant:
        return ()
    started = time.monotonic()
    ids = await gate.store.send_command([worker.id for worker in meant], verb, msgspec.json.encode(args))
    answered: dict[int, WorkerReply] = {}
    name_of = {order: worker.name for order, worker in zip(ids, meant, strict=True)}
    while True:
        for reply in await gate.store.command_replies([order for order in ids if order not in answered]):
            if reply.answered_us is not None:
                after = timedelta(seconds=time.monotonic() - started)
                decoded = msgspec.json.decode(reply.reply)
                answered[reply.id] = WorkerReply(worker=name_of[reply.id], answered_after=after, reply=decoded)
        if len(answered) == len(ids) or time.monotonic() - started >= timeout:
            break
        await asyncio.sleep(ASK_AGAIN_EVERY)
    return tuple(answered.get(order) or WorkerReply(worker=name_of[order], answered_after=None) for order in ids)


async def _port_query(gate: Gateway, query: JobQuery | None) -> port.JobQuery | None:
    """The query as the store takes it; None where it names a worker that nobody knows, so that nothing can match."""
    if query is None:
        return port.JobQuery()
    worker = None
    if query.worker is not None:
        ids = [record.id for record in await gate.questions.list_workers() if record.name == query.worker]
        if not ids:
            return None
        worker = ids[0]
    return port.JobQuery(
        statuses=None if query.statuses is None else tuple(query.statuses),
        task=query.task,
        lane=None if query.lane is None else read_lane(query.lane),
        priority=None if query.priority is None else read_priority(query.priority),
        worker=worker,
        created_from_us=None if query.created_from is None else moment_us(query.created_from, "created_from"),
        created_to_us=None if query.created_to is None else moment_us(query.created_to, "created_to"),
        reason=query.reason,
        text=query.text,
    )


async def _worker_names(gate: Gateway, ids: Sequence[int | None]) -> dict[int, str]:
    return {worker: record.name for worker, record in (await _workers_by_id(gate, ids)).items()}


async def _workers_by_id(gate: Gateway, ids: Sequence[int | None]) -> dict[int, WorkerRecord]:
    wanted = sorted({worker for worker in ids if worker is not None})
    if not wanted:
        return {}
    return {record.id: record for record in await gate.questions.workers_by_id(wanted)}


def _ids(jobs: str | Sequence[str]) -> Sequence[str]:
    return [jobs] if isinstance(jobs, str) else list(jobs)
