"""Guarded starts and early rows (R10, R11), in batches: one statement for all that is asked while one is under way."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from jobmaster.engine.life import Entry, Life, Stage
from jobmaster.engine.persistence import Backoff
from jobmaster.errors import SerializationError, StoreUnavailable
from jobmaster.model.ids import key_text
from jobmaster.model.job import Start
from jobmaster.model.run import Halt
from jobmaster.model.states import JobStatus
from jobmaster.ports.answers import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobmaster.engine.lease import Lease
    from jobmaster.engine.store_clock import StoreClock
    from jobmaster.model.job import Verdict
    from jobmaster.ports.store import Store

logger = logging.getLogger("jobmaster.engine")

_BATCH = 500
_TRIES = 3
"""A batch that failed so often for an unexpected reason is divided, until the job is alone that is at fault."""


class Answer(Protocol):
    """What the runner does with the answer to a guarded start."""

    def __call__(self, entry: Entry, *, yes: bool) -> None:
        """`yes` is the only permission to start."""


class Starter:
    """Asks the master before a job starts, and tells it about jobs that wait or run for long."""

    def __init__(
        self,
        *,
        store: Store,
        lease: Lease,
        store_clock: StoreClock,
        draw_nonce: Callable[[], int],
        pause: Backoff,
    ) -> None:
        self._store = store
        self._lease = lease
        self._store_clock = store_clock
        self._draw_nonce = draw_nonce
        self._pause = pause
        self._asked: dict[Life, dict[Entry, None]] = {}
        self._wake = asyncio.Event()
        self.under_way = 0
        """Jobs in a batch that is not answered yet: the graceful stop waits for them (R22')."""
        self.answered: Answer = lambda _entry, *, yes: None  # noqa: ARG005
        self.halt: Callable[[Entry, Halt], None] = lambda _entry, _why: None
        self.settled: Callable[[Entry], None] = lambda _entry: None
        self.begun: Callable[[Entry], None] = lambda _entry: None
        """Told of each guarded start of an occurrence with an overlap policy that was answered with yes."""

    def ask(self, entry: Entry) -> None:
        """A guarded start: `answered` is called with the verdict."""
        self._add(entry)

    def early(self, entry: Entry) -> None:
        """An early row of a job that runs or waits; a no stops it."""
        self._add(entry)

    def pending(self) -> int:
        """Jobs that are asked about and not answered."""
        return sum(map(len, self._asked.values())) + self.under_way

    async def run(self) -> None:
        """Send batches until cancelled."""
        while True:
            await self._wake.wait()
            life, batch = self._next_batch()
            if life is None:
                self._wake.clear()
                continue
            await self._send(life, batch)

    def _add(self, entry: Entry) -> None:
        if not entry.nonce:
            entry.nonce = self._draw_nonce()
        self._asked.setdefault(entry.life, {})[entry] = None
        self._wake.set()

    def _next_batch(self) -> tuple[Life | None, list[Entry]]:
        while self._asked:
            life = next(iter(self._asked))
            asked = list(self._asked.pop(life))
            batch = []
            for entry in asked[:_BATCH]:
                if entry.alive:
                    batch.append(entry)
                elif entry.stage is Stage.ASKING:
                    self.answered(entry, yes=False)
            if len(asked) > _BATCH:
                self._asked[life] = dict.fromkeys(asked[_BATCH:])
            if batch:
                return life, batch
        return None, []

    async def _send(self, life: Life, batch: list[Entry]) -> None:
        self.under_way += len(batch)
        for entry in batch:
            entry.in_master = True  # from the moment of sending (R11)
            entry.recorded = entry.stage is not Stage.WAITING
        starts = [self._describe(entry) for entry in batch]
        try:
            verdicts = await self._verdicts(life, starts)
        finally:
            self.under_way -= len(batch)
        for entry, start, verdict in zip(batch, starts, verdicts, strict=True):
            self._apply(entry, start, verdict)

    async def _verdicts(self, life: Life, starts: list[Start]) -> Sequence[Verdict | None]:
        """One for each start; None: its life is over, or nothing can be stored about it."""
        try:
            return await self._until_answered(life, starts) or [None] * len(starts)
        except Exception as error:  # noqa: BLE001 - no error of a store ends a worker (I8)
            if len(starts) == 1:
                logger.error("start_not_storable job=%s error=%r", key_text(starts[0].key), error)  # noqa: TRY400
                return [None]
            half = len(starts) // 2
            return [*await self._verdicts(life, starts[:half]), *await self._verdicts(life, starts[half:])]

    async def _until_answered(self, life: Life, starts: list[Start]) -> list[Verdict] | None:
        """Repeat the same batch until the store answers; None when the life is over.

        Raises what is no trouble of the store, but of this batch.
        """
        unexpected = 0
        while not life.dropped:
            if not self._lease.trusted():
                await self._pause.wait(0)
                continue
            try:
                verdicts = await self._store.take_over(life.fence, starts)
            except Refused as answer:
                self._lease.drop(life, str(answer))
            except StoreUnavailable as error:
                await self._pause.wait_after(error)
            except Exception as error:
                unexpected += 1
                if isinstance(error, SerializationError) or unexpected >= _TRIES:
                    raise
                await self._pause.wait_after(error)
            else:
                self._pause.succeeded()
                return verdicts
        return None

    def _describe(self, entry: Entry) -> Start:
        waits = entry.stage is Stage.WAITING
        return Start(
            key=entry.key,
            gen=entry.gen,
            nonce=entry.nonce,
            envelope=entry.envelope,
            payload=entry.payload,
            due_us=entry.due_us,
            status=JobStatus.QUEUED if waits else JobStatus.PROCESSING,
            seq=entry.seq,
            started_us=entry.started_us or self._store_clock.now_us(),
            attempt=max(entry.attempts, 1) if entry.stage is Stage.RUNNING else entry.attempts + 1,
            take_over=entry.envelope.at_most_once and not waits,
        )

    def _apply(self, entry: Entry, asked: Start, verdict: Verdict | None) -> None:
        """What was asked decides what the answer means: an entry may ask to start while its early row is on the way."""
        waited = asked.status is JobStatus.QUEUED
        yes = verdict is not None and verdict.yes and entry.alive
        if yes and verdict is not None and not waited:
            entry.attempts, entry.recoveries = verdict.attempt, max(entry.recoveries, verdict.recoveries)
            if entry.envelope.at_most_once:
                entry.life.message_removed(entry)
            if entry.envelope.overlap:
                self.begun(entry)
        stage = entry.stage
        if not yes and entry.alive and stage is not Stage.ENDED:
            logger.info("start_refused job=%s gen=%d bucket=%d: it has ended, was cancelled, or is somebody else's",
                        key_text(entry.key), entry.gen, entry.life.bucket.id)  # fmt: skip
            if stage is Stage.RUNNING:
                self.halt(entry, Halt.SHUTDOWN)
            self.settled(entry)
        if stage is Stage.ASKING and not waited:
            self.answered(entry, yes=yes)
