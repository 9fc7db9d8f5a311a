"""Outcomes to the store, together: whatever is there when a flusher is free, one bucket a batch (R12, R13).

An entry leaves memory only when its removal is answered. A batch without an answer is repeated as it is. A fenced batch
changes nothing and removes no message; its life is over.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobmaster.errors import SerializationError, StoreUnavailable
from jobmaster.model.ids import key_text
from jobmaster.model.job import ErrorInfo
from jobmaster.model.reasons import NOT_STORABLE
from jobmaster.model.states import JobStatus
from jobmaster.ports.answers import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobmaster.engine.lease import Lease
    from jobmaster.engine.life import Entry, Life
    from jobmaster.engine.persistence import Backoff
    from jobmaster.model.job import Message, Outcome, Settled
    from jobmaster.ports.store import Store

Item = tuple["Entry", "Outcome"]

logger = logging.getLogger("jobmaster.engine")

MOST_BYTES = 4 << 20
"""Of results and messages in one batch of more than one outcome: a renewal of the lease must not wait long for it."""
_TRIES = 3
"""A batch that failed so often for an unexpected reason is divided, until the outcome is alone that is at fault."""


class Finisher:
    """Collects outcomes and writes them in batches."""

    def __init__(self, *, store: Store, lease: Lease, batch: int, pause: Backoff) -> None:
        self._store = store
        self._lease = lease
        self._batch = batch
        self._pause = pause
        self._outcomes: dict[Life, list[Item]] = {}
        self._handed_back: dict[Life, list[Item]] = {}
        self._wake = asyncio.Event()
        self._in_flight = 0
        self._waiting = 0
        self._waiting_bytes = 0
        """Of the results that wait, and the messages that they end."""
        self.settled: Callable[[Life, list[Message]], None] = lambda _life, _twins: None
        """Told of each batch that was answered, with second copies of its jobs."""

    def add(self, entry: Entry, outcome: Outcome) -> None:
        """An outcome to write, at the next `flush`."""
        items = self._outcomes.get(entry.life)
        if items is None:
            items = self._outcomes[entry.life] = []
        items.append((entry, outcome))
        self._waiting += 1
        self._waiting_bytes += (
            len(entry.payload) if outcome.result is None else len(entry.payload) + len(outcome.result)
        )

    def flush(self) -> None:
        """Outcomes were added: write them when a flusher is free."""
        self._wake.set()

    def hand_back(self, entry: Entry, outcome: Outcome) -> None:
        """A run that a shutdown ended: held again, nothing spent."""
        self._handed_back.setdefault(entry.life, []).append((entry, outcome))
        self._waiting += 1
        self._waiting_bytes += _size([(entry, outcome)])
        self._wake.set()

    def pending(self) -> int:
        """Outcomes that are not settled yet."""
        return self._waiting + self._in_flight

    def is_behind(self, *, most: int, most_bytes: int) -> bool:
        """Whether so many outcomes, or so many bytes of them, wait that nothing more should start."""
        return self._waiting + self._in_flight >= most or self._waiting_bytes >= most_bytes

    def idle(self) -> bool:
        """True when every outcome is settled."""
        return self.pending() == 0

    async def run(self) -> None:
        """Flush until cancelled. Several of these may run beside each other."""
        while True:
            await self._wake.wait()
            taken = self._take(self._outcomes)
            if taken:
                await self._flush(*taken, ended=None)
                continue
            taken = self._take(self._handed_back)
            if taken:
                await self._flush(*taken, ended=True)
                continue
            self._wake.clear()

    def _take(self, queues: dict[Life, list[Item]]) -> tuple[Life, list[Item]] | None:
        """One life's batch; a job comes only once in it."""
        for life in list(queues):
            if life.dropped:
                items = queues.pop(life)
                late = len(items)
                self._waiting -= late
                self._waiting_bytes -= _size(items)
                logger.warning("outcomes_dropped bucket=%d epoch=%d count=%d", life.bucket.id, life.bucket.epoch, late)
                continue
            items = queues.pop(life)
            most = self._batch if self._waiting_bytes <= MOST_BYTES else min(self._batch, _light(items))
            batch, rest = items[:most], items[most:]
            if len({entry.key for entry, _ in batch}) < len(batch):
                batch, again = _each_once(batch)
                rest = again + rest
            if rest:
                queues[life] = rest
            self._waiting -= len(batch)
            self._waiting_bytes -= _size(batch)
            return life, batch
        return None

    async def _flush(self, life: Life, batch: list[Item], *, ended: bool | None) -> None:
        self._in_flight += len(batch)
        try:
            if await self._written(life, [outcome for _, outcome in batch], ended=ended):
                if ended:
                    logger.info("jobs_handed_back bucket=%d count=%d", life.bucket.id, len(batch))
                self.settled(life, life.forget([entry for entry, _ in batch]))
        finally:
            self._in_flight -= len(batch)

    async def _written(self, life: Life, outcomes: list[Outcome], *, ended: bool | None) -> bool:
        """False: the life is over. One outcome that can't be stored holds up no other, and fails its job."""
        try:
            return await self._until_answered(life, outcomes, ended=ended)
        except Exception as error:  # noqa: BLE001 - no error of a store ends a worker (I8)
            if len(outcomes) == 1:
                logger.error("outcome_not_storable job=%s error=%r", key_text(outcomes[0].key), error)  # noqa: TRY400
                return await self._until_answered(life, [_failed(outcomes[0], error)], ended=None, for_ever=True)
            half = len(outcomes) // 2
            first = await self._written(life, outcomes[:half], ended=ended)
            return first and await self._written(life, outcomes[half:], ended=ended)

    def _tell_refused(self, life: Life, outcomes: Sequence[Outcome], answers: Sequence[Settled]) -> None:
        """What another assignment of the job has overtaken: its outcome came too late, and counts for nothing."""
        if all(answer.done for answer in answers):
            return
        refused = sum(not a.done and not _is_known(o) for o, a in zip(outcomes, answers, strict=True))
        if refused:
            logger.warning("outcomes_refused bucket=%d epoch=%d count=%d", life.bucket.id, life.bucket.epoch, refused)

    async def _until_answered(
        self, life: Life, outcomes: list[Outcome], *, ended: bool | None, for_ever: bool = False
    ) -> bool:
        """Repeat the same batch until the store answers; False when the life is over.

        Raises what is no trouble of the store, but of this batch; not if `for_ever`.
        """
        unexpected = 0
        while not life.dropped:
            if not self._lease.trusted():
                await self._pause.wait(0)
                continue
            try:
                if ended is None:
                    self._tell_refused(life, outcomes, await self._store.settle(life.fence, outcomes))
                else:
                    await self._store.set_free(life.fence, outcomes, ended=ended)
            except Refused as answer:
                self._lease.drop(life, str(answer))
            except StoreUnavailable as error:
                await self._pause.wait_after(error)
            except Exception as error:
                unexpected += 1
                if not for_ever and (isinstance(error, SerializationError) or unexpected >= _TRIES):
                    raise
                await self._pause.wait_after(error)
            else:
                self._pause.succeeded()
                return True
        return False


def _size(items: Sequence[Item]) -> int:
    """Bytes of results and messages."""
    return sum([len(entry.payload) + len(outcome.result or b"") for entry, outcome in items])


def _light(items: Sequence[Item]) -> int:
    """How many of the first are one batch by their size; one at the least."""
    size = 0
    for count, (entry, outcome) in enumerate(items):
        size += len(entry.payload) + len(outcome.result or b"")
        if size > MOST_BYTES:
            return max(count, 1)
    return len(items)


def _each_once(items: list[Item]) -> tuple[list[Item], list[Item]]:
    """The first outcome of each job, and the others."""
    first: dict[bytes, Item] = {}
    again = [item for item in items if first.setdefault(item[0].key, item) is not item]
    return list(first.values()), again


def _is_known(outcome: Outcome) -> bool:
    """Of a job that was cancelled before it started its row said so before: by that its owner knew."""
    return outcome.status is JobStatus.CANCELLED and outcome.started_us is None


def _failed(outcome: Outcome, error: Exception) -> Outcome:
    """What is written in place of an outcome that no store takes."""
    return replace(
        outcome,
        status=JobStatus.FAILED,
        delay_us=0,
        result=None,
        checkpoint=None,
        reason=NOT_STORABLE,
        error=ErrorInfo(type(error).__name__, str(error)),
    )
