"""A supervisor of real processes, put together: what a `jobmaster worker` process runs. For Linux and macOS."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, NamedTuple, Protocol

from jobmaster.engine.lease_keeper import LeaseKeeper, RenewingStore
from jobmaster.engine.links.processes import ProcessSpawner
from jobmaster.engine.supervisor import EndingStore, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobmaster.engine.links.processes import Launch
    from jobmaster.engine.supervisor import Patience
    from jobmaster.ports.clock import Clock
    from jobmaster.rules.lease import LeaseTiming


class SupervisingStore(RenewingStore, EndingStore, Protocol):
    """What a supervising process needs of a master."""


class Supervised(NamedTuple):
    """How it ended: the exit code, and why it gave up (None: it did not)."""

    code: int
    failure: str | None


async def supervise(
    *,
    launch: Callable[[int], Launch],
    engines: int,
    store: SupervisingStore,
    clock: Clock,
    timing: LeaseTiming,
    patience: Patience,
    random: Callable[[], float],
) -> Supervised:
    """Run engines 0 to `engines - 1` until SIGTERM or SIGINT, or until they have ended. On the main thread only.

    Args:
        launch: what engine number n is to run.
        engines: how many.
        store: a master on a connection of its own: leases hang on its answers.
        clock: this process's clocks.
        timing: the cluster's lease.
        patience: how long to wait before a kill; its `grace` should be that of `launch`.
        random: numbers in [0, 1), for jitter.
    """
    spawner = ProcessSpawner(launch)
    keeper = LeaseKeeper(store=store, clock=clock, timing=timing, random=random)
    supervisor = Supervisor(
        spawner=spawner,
        keeper=keeper,
        store=store,
        clock=clock,
        engines=engines,
        patience=patience,
        random=random,
    )
    spawner.on_news, spawner.on_hurry = supervisor.wake, keeper.hurry
    with stopped_by_signals(supervisor.stop):
        code = await supervisor.run()
    return Supervised(code, supervisor.failure)


@contextlib.contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the running loop for each SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
