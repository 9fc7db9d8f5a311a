"""Watches the stores' tables from the inside and tells the checker of every change, at the moment when it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobmaster.stores.memory.rows import JobRow, JobTable
from tests.simulation.checker import BucketView, RowView
from tests.simulation.network import current_call, jobs_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Message
    from jobmaster.ports.answers import Refused
    from tests.simulation.network import Call
    from tests.simulation.world import World


class WatchedJobs(JobTable):
    """A job table that tells of every change."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger

    def insert(self, row: JobRow) -> JobRow:
        super().insert(row)
        self._ledger.row_changed(row.key, None, _view(row))
        return row

    def change(self, row: JobRow, **fields: object) -> None:
        old = _view(row)
        super().change(row, **fields)
        new = _view(row)
        if old != new:
            self._ledger.row_changed(row.key, old, new)

    def delete(self, keys: Iterable[JobKey]) -> None:
        for key in list(keys):
            row = self.get(key)
            assert row is not None
            super().delete([key])
            self._ledger.row_changed(key, _view(row), None)


def _view(row: JobRow) -> RowView:
    return RowView(row.status, row.gen, row.bucket, row.due_us, row.failures, row.recoveries, row.reason, row.nonce)


class Ledger:
    """What really stands in the stores."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._buckets: dict[int, BucketView] = {}
        self._moved: dict[int, list[JobKey]] = {}
        self._doubted: set[int] = set()

    def watched_jobs(self) -> WatchedJobs:
        """An empty job table that tells this ledger of its changes."""
        return WatchedJobs(self)

    # -- ground truth

    @property
    def _master(self) -> Any:
        return next(iter(self._world.servers.values())).store

    def bucket(self, number: int) -> BucketView | None:
        """Owner and epoch of a bucket now."""
        row = self._master.buckets.get(number)
        return None if row is None else BucketView(row.owner, row.epoch)

    def stored(self) -> set[JobKey]:
        """Jobs that an agent has a message of."""
        return {message.key for message in self._messages()}

    def overdue(self) -> set[JobKey]:
        """Jobs with a message that was due two seconds ago."""
        return {message.key for message in self._messages() if message.due_us < self._world.store_us() - 2_000_000}

    def _messages(self) -> list[Message]:
        agents = [server.store for server in self._world.servers.values() if hasattr(server.store, "queues")]
        return [message for agent in agents for queue in agent.queues.values() for message in queue.by_seq.values()]

    def describe(self) -> None:
        """At the end, for traces: what is left in the agents."""
        for server in self._world.servers.values():
            for queue in getattr(server.store, "queues", {}).values():
                for message in queue.by_seq.values():
                    row = self._master.buckets.get(message.bucket)
                    self._world.trace(message.key, f"left in {server.name}: seq {message.seq} of {row and row.seen()}")

    # -- changes

    def doubted(self, call: Call) -> None:
        """The caller does not know whether, or how often, the call takes effect."""
        for job in jobs_in(call):
            self._world.checker.doubtful(job.key)
        if call.verb == "hand_over":
            self._doubted.add(call.number)
            for key in self._moved.get(call.number, ()):
                self._world.checker.doubtful(key)

    def refused(self, call: Call, answer: Refused) -> None:
        """For traces."""
        self._world.trace(
            f"b{getattr(call.args[0], 'bucket', '')}" if call.args else None,
            f"{call.verb} of {call.process} refused: {answer}",
        )

    def message_left(self, message: Message, *, moved: bool) -> None:
        """It was removed, or moved to another bucket."""
        call = current_call.get()
        assert call is not None
        if moved:
            self._moved.setdefault(call.number, []).append(message.key)
            if call.number in self._doubted:
                self._world.checker.doubtful(message.key)
        self._world.checker.removed(message.key, message.gen, moved=moved)

    def row_changed(self, key: JobKey, old: RowView | None, new: RowView | None) -> None:
        call, checker = current_call.get(), self._world.checker
        assert call is not None
        if old is None and new is not None and call.verb == "plan_schedules":
            self._world.planned(key, new.due_us)
        if new is None and call.verb == "change_schedule":
            checker.dropped(key, old)
            return
        if call.verb in {"settle", "finish"} and new is not None:
            checker.finish_changed(key, old, call.args[0], _gens(call)[key])
        if call.verb in {"drain", "drain_in"}:
            checker.drained(key, old, call.args[0].bucket)
        checker.row_changed(key, old, new, call)

    def call_ended(self, call: Call) -> None:
        """After every call: what buckets have become."""
        rows = self._master.buckets
        if len(rows) == len(self._buckets) and all(
            (seen := self._buckets.get(number)) is not None and seen == (row.owner, row.epoch)
            for number, row in rows.items()
        ):
            return
        new = {number: BucketView(row.owner, row.epoch) for number, row in rows.items()}
        for number in dict.fromkeys([*self._buckets, *new]):
            if self._buckets.get(number) != new.get(number):
                was, now = self._buckets.get(number), new.get(number)
                self._world.trace(f"b{number}", f"{was} -> {now} by {call.verb} of {call.process}")
                self._world.checker.bucket_changed(number, self._buckets.get(number), new.get(number))
        self._buckets = new


def _gens(call: Call) -> dict[JobKey, int]:
    return {outcome.key: outcome.gen for outcome in call.args[1]}
