"""Settings, definitions, commands, retention and the archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.aged import AgedJob, decode_aged, encode_aged
from jobmaster.model.job import encode_envelope, result_until_us
from jobmaster.model.reasons import RESULT_EXPIRED
from jobmaster.model.states import JobStatus
from jobmaster.model.worker import Command, CommandReply
from jobmaster.rules.storable import check_cluster, check_definition, check_text
from jobmaster.stores.memory.queries import record_of
from jobmaster.stores.memory.rows import CommandRow, JobRow
from jobmaster.stores.memory.state import MasterState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.definition import ClusterRecord, Definition
    from jobmaster.model.ids import JobKey


class Settings(MasterState):
    """The cluster's settings and the definitions of its tasks."""

    async def now_us(self) -> int:
        return self._begin()

    async def identity(self) -> str:
        return f"memory/{id(self)}"

    async def load_cluster(self) -> ClusterRecord | None:
        self._begin()
        return self.cluster

    async def save_cluster(self, record: ClusterRecord) -> bool:
        self._begin()
        check_cluster(record)
        if not self._follows(record):
            return False
        self.cluster = record
        return True

    def _follows(self, record: ClusterRecord) -> bool:
        return record.version == (self.cluster.version if self.cluster else 0) + 1

    async def save_definitions(self, definitions: Sequence[Definition]) -> None:
        self._begin()
        for definition in definitions:
            check_definition(definition)
        self.definitions_by_name.update((definition.name, definition) for definition in definitions)

    async def definitions(self, names: Sequence[str] | None = None) -> list[Definition]:
        self._begin()
        wanted = self.definitions_by_name if names is None else set(names) & set(self.definitions_by_name)
        return [self.definitions_by_name[name] for name in sorted(wanted)]


class Commands(MasterState):
    """Orders to workers."""

    async def send_command(self, workers: Sequence[int], verb: str, args: bytes) -> list[int]:
        now = self._begin()
        check_text(verb, "command")
        sent = [CommandRow(self._next_id(), worker, verb, args, now) for worker in workers]
        self.commands.update((command.id, command) for command in sent)
        self.hub.send(f"worker:{worker}" for worker in workers)
        return [command.id for command in sent]

    def _unanswered(self, worker: int) -> list[Command]:
        waiting = (c for c in self.commands.values() if c.worker == worker and c.answered_us is None)
        return [Command(c.id, c.verb, c.args) for c in waiting]

    async def take_commands(self, worker: int) -> list[Command]:
        self._begin()
        return self._unanswered(worker)

    async def answer_command(self, command: int, reply: bytes) -> None:
        now = self._begin()
        row = self.commands.get(command)
        if row is not None and row.answered_us is None:
            row.answered_us, row.reply = now, reply

    async def command_replies(self, commands: Sequence[int]) -> list[CommandReply]:
        self._begin()
        known = [self.commands[command] for command in commands if command in self.commands]
        return [CommandReply(c.id, c.worker, c.verb, c.answered_us, c.reply) for c in known]


class Retention(MasterState):
    """What becomes of jobs that have ended long ago."""

    async def purge(self, *, before_us: int, limit: int) -> int:
        now = self._begin()
        old = self._aged(before_us, limit)
        self._delete([row.key for row in old])
        self._purge_tombstones(now - self.rules.tombstone_us)
        self.commands = {c.id: c for c in self.commands.values() if c.sent_us >= before_us}
        self._purge_workers(before_us)
        return len(old)

    def _aged(self, before_us: int, limit: int) -> list[JobRow]:
        ended = (row for row in self.jobs if row.status.is_final and row.finished_us is not None)
        return sorted((row for row in ended if (row.finished_us or 0) < before_us), key=_finished)[:limit]

    def _delete(self, keys: list[JobKey]) -> None:
        self.jobs.delete(keys)
        for key in keys:
            self.attempts.pop(key, None)
            self.blames.pop(key, None)

    def _purge_tombstones(self, before_us: int) -> None:
        self.tombstones = {key: stone for key, stone in self.tombstones.items() if stone.at_us >= before_us}
        self.cancel_log = [(number, key) for number, key in self.cancel_log if key in self.tombstones]

    def _purge_workers(self, before_us: int) -> None:
        owners = {bucket.owner for bucket in self.buckets.values()}
        for worker in list(self.workers.values()):
            if worker.lease_until_us < before_us and worker.id not in owners:
                del self.workers[worker.id]
                if self.boots.get(worker.registration.name) == worker.id:
                    del self.boots[worker.registration.name]
                self.blamed = {(by, key) for by, key in self.blamed if by != worker.id}

    async def forget_results(self, *, limit: int) -> int:
        now = self._begin()
        kept = ((_result_until(row), row) for row in self.jobs)
        passed = sorted(((until, row.key) for until, row in kept if until is not None and until <= now))[:limit]
        for _, key in passed:
            row = self.jobs.get(key)
            if row is not None:
                succeeded = row.status is JobStatus.SUCCEEDED
                self.jobs.change(row, result=None, reason=RESULT_EXPIRED if succeeded else row.reason)
        return len(passed)

    async def aged(self, *, before_us: int, limit: int) -> list[bytes]:
        self._begin()
        return [self._encode_aged(row) for row in self._aged(before_us, limit)]

    def _encode_aged(self, row: JobRow) -> bytes:
        attempts = self.attempts.get(row.key, {})
        return encode_aged(AgedJob(record_of(row, whole=True), [attempts[number] for number in sorted(attempts)]))

    async def import_aged(self, records: Sequence[bytes]) -> list[JobKey]:
        self._begin()
        jobs = [decode_aged(record) for record in records]
        for job in jobs:
            if self.jobs.get(job.record.key) is None:
                self.jobs.insert(_imported(job))
                if job.attempts:
                    self.attempts[job.record.key] = {attempt.attempt: attempt for attempt in job.attempts}
        return [job.record.key for job in jobs]

    async def delete_final(self, keys: Sequence[JobKey]) -> int:
        self._begin()
        rows = {key: self.jobs.get(key) for key in keys}
        ended = [key for key, row in rows.items() if row is not None and row.status.is_final]
        self._delete(ended)
        return len(ended)


def _result_until(row: JobRow) -> int | None:
    return result_until_us(row.envelope, row.result, row.finished_us) if row.status.is_final else None


def _finished(row: JobRow) -> tuple[int, JobKey]:
    return row.finished_us or 0, row.key


def _imported(job: AgedJob) -> JobRow:
    """The row in an archive: it belongs to no bucket of this cluster."""
    record = job.record
    if record.envelope is None:
        raise ValueError("an aged record carries its envelope")
    return JobRow(
        key=record.key,
        envelope=record.envelope,
        payload=encode_envelope(record.envelope),
        status=record.status,
        due_us=record.due_us,
        gen=record.gen,
        touched_us=record.finished_us or 0,
        attempts=record.attempts,
        failures=record.failures,
        recoveries=record.recoveries,
        started_us=record.started_us,
        finished_us=record.finished_us,
        result=record.result,
        error=record.error,
        reason=record.reason,
    )
