"""Renews the leases of engine processes, outside of the event loops that run users' code (R6, R7).

One statement renews all children with what each last reported. Only one renewal is under way at a time; they are
numbered for each worker, so that one which applies late changes nothing. An answer is the only grant there is.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from jobmaster.model.worker import Renewal
from jobmaster.rules.lease import LeaseTiming, retry_after, trust_until_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.worker import Grant
    from jobmaster.ports.clock import Clock
    from jobmaster.ports.link import Child, Report

logger = logging.getLogger("jobmaster.lease")

LOOK_EVERY = 0.25
"""Seconds between looks at the children's reports where nobody ever calls `hurry`."""
SHORTEST_GAP = 0.05
"""Seconds between two renewals, however often the engines ask for one soon."""


class RenewingStore(Protocol):
    """What a keeper needs of a master."""

    async def renew(self, renewals: Sequence[Renewal]) -> list[Grant]:
        """See `ports.master.MasterStore.renew`."""
        ...


class LeaseKeeper:
    """Keeps the leases of its children.

    Args:
        store: a master on a connection of its own.
        clock: its `trust_ns` must be the one by which the children judge their trust.
        timing: the cluster's lease.
        random: numbers in [0, 1), for jitter.
    """

    def __init__(self, *, store: RenewingStore, clock: Clock, timing: LeaseTiming, random: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._timing = timing
        self._random = random
        self._children: list[Child] = []
        self._numbers: dict[int, int] = {}
        self._sent: dict[int, Report] = {}
        self._hurried = asyncio.Event()
        self._announced = False
        """`hurry` is called here, so that nobody needs to look: an idle worker sleeps."""
        self._failures = 0
        self.suspects: list[JobKey] = []
        """Told to every child with its grant, so that who adopts what a dead one had knows them."""

    def add(self, child: Child) -> None:
        """Renew for this child from now on, and at once if it has reported already."""
        self._children.append(child)
        if child.reports() is not None:
            self._hurried.set()

    def remove(self, child: Child) -> None:
        """Renew for it no more."""
        self._children.remove(child)

    def hurry(self) -> None:
        """Renew without waiting for the period: a report said `soon`. To be called on the keeper's loop.

        Who calls this once, calls it always.
        """
        self._announced = True
        self._hurried.set()

    async def run(self) -> None:
        """Renew until cancelled. No error of the store ends it."""
        while True:
            started = self._clock.monotonic()
            pause = await self._renew_all()
            await asyncio.sleep(min(SHORTEST_GAP, self._timing.renew_every))
            await self._until(started + pause)

    async def _until(self, moment: float) -> None:
        """Sleep until `moment` (monotonic seconds), or until a child wants a renewal soon and the store answers."""
        while (left := moment - self._clock.monotonic()) > 0:
            if self._failures:
                await asyncio.sleep(left)
            elif self._hurried.is_set() or self._asked_soon():
                return
            else:
                await _wait(self._hurried, seconds=left if self._announced else min(left, LOOK_EVERY))

    def _asked_soon(self) -> bool:
        """A new report says `soon`, or is the first of its worker."""
        return any(
            (report.soon or report.worker not in self._sent) and self._sent.get(report.worker) is not report
            for _, report in self._reports()
        )

    def _reports(self) -> list[tuple[Child, Report]]:
        living = [child for child in self._children if child.exit_reason() is None]
        return [(child, report) for child in living if (report := child.reports()) is not None]

    async def _renew_all(self) -> float:
        """Renew once; the answer is how many seconds after its beginning the next one is due."""
        self._hurried.clear()
        reports = self._reports()
        self._forget_the_dead(reports)
        if not reports:
            return self._timing.renew_every
        renewals = [self._renewal(report) for _, report in reports]
        sent_ns = self._clock.trust_ns()
        began = self._clock.monotonic()
        try:
            grants = await self._ask(renewals)
        except Exception as error:  # noqa: BLE001 - nothing that a store does may end the keeper (I8)
            self._failures += 1
            level = logging.WARNING if self._failures == 1 else logging.DEBUG
            logger.log(level, "renewal_not_answered failures=%d error=%r", self._failures, error)
            wait = retry_after(self._timing, failures=self._failures, random=self._random())
            return self._clock.monotonic() - began + wait
        if self._failures:
            logger.info("renewal_answered after_failures=%d", self._failures)
        self._failures = 0
        until_ns = trust_until_ns(self._timing, sent_ns=sent_ns)
        for (child, _), renewal, grant in zip(reports, renewals, grants, strict=True):
            # An answer to another number prolonged nothing: somebody renewed this worker with a higher one.
            if grant.gone or grant.number == renewal.number:
                told = replace(grant, trust_until_ns=until_ns, suspects=self.suspects)
                child.grant(told, trust_until_ns=until_ns)
        return self._timing.renew_every

    def _forget_the_dead(self, reports: list[tuple[Child, Report]]) -> None:
        workers = {report.worker for _, report in reports}
        self._sent = {worker: report for worker, report in self._sent.items() if worker in workers}

    def _renewal(self, report: Report) -> Renewal:
        number = self._numbers.get(report.worker, 0) + 1
        self._numbers[report.worker] = number
        self._sent[report.worker] = report
        return Renewal(
            worker=report.worker,
            number=number,
            held=report.held,
            cut_us=report.cut_us,
            adopt=report.adopt,
            stopping=report.stopping,
            depths=report.depths,
            demands=report.demands,
            cancels_after=report.cancels_after,
            stats=report.stats,
        )

    async def _ask(self, renewals: list[Renewal]) -> list[Grant]:
        """One renewal; abandoned after `call_timeout`, also by a store that does not listen to its cancellation."""
        call = asyncio.ensure_future(self._store.renew(renewals))
        try:
            await asyncio.wait({call}, timeout=self._timing.call_timeout)
            if not call.done():
                call.cancel()
                await asyncio.wait({call}, timeout=self._timing.call_timeout / 10)
                raise TimeoutError(f"no answer within {self._timing.call_timeout:g} s")
            return call.result()
        finally:
            if not call.done():
                call.cancel()
                call.add_done_callback(_retrieve)


async def _wait(event: asyncio.Event, *, seconds: float) -> None:
    """Wait for the event, but not longer than that."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def _retrieve(call: asyncio.Future[list[Grant]]) -> None:
    """Look at an abandoned call's end, so that the loop does not complain about it."""
    if not call.cancelled():
        call.exception()
