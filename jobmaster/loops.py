"""Where a gateway lives: on a loop of its own beside sync code, or as a lodger on the user's running loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Final

from jobmaster.event_loop import new_event_loop

if TYPE_CHECKING:
    from jobmaster.gateway import Gateway

CLOSE_WITHIN: Final = 10.0
"""Seconds that the end of a program waits for its background loop."""


class Tenancy:
    """A gateway on somebody else's event loop: closed when the app is, or else when the loop ends."""

    def __init__(self, open_gateway: Callable[[], Awaitable[Gateway]]) -> None:
        self._open_gateway = open_gateway
        self._opening = asyncio.get_running_loop().create_task(self._open(), name="jobmaster-open")
        self._lodger: AsyncGenerator[None, None] | None = None

    async def gateway(self) -> Gateway:
        """The gateway. A caller that is cancelled does not take the connection from the others."""
        return await asyncio.shield(self._opening)

    def failed(self) -> bool:
        """Whether it could not be opened, so that somebody may try again."""
        done = self._opening.done()
        return done and (self._opening.cancelled() or self._opening.exception() is not None)

    async def end(self) -> None:
        """Close the gateway."""
        await asyncio.gather(self._opening, return_exceptions=True)
        if self._lodger is not None:
            await self._lodger.aclose()

    async def _open(self) -> Gateway:
        gateway = await self._open_gateway()
        # `asyncio.run` ends the generators that began on its loop: without that, each short loop of a program that
        # forgets aclose() would leave threads and files behind.
        self._lodger = _close_at_the_end(gateway)
        await anext(self._lodger)
        return gateway


async def _close_at_the_end(gateway: Gateway) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await gateway.close()


class Background:
    """The event loop thread of sync code, with its gateway. Opening raises what the stores raise."""

    def __init__(self, open_gateway: Callable[[], Awaitable[Gateway]]) -> None:
        self._pid = os.getpid()
        self._ready = threading.Event()
        self._failures: list[BaseException] = []
        self._open_gateway = open_gateway
        self._unwanted = False
        self._thread = threading.Thread(target=self._main, name="jobmaster-producer", daemon=True)
        try:
            self._thread.start()
            self._ready.wait()
        except BaseException:  # Ctrl-C: nobody will ever hear of this one
            self._unwanted = True
            if self._ready.is_set() and not self._failures:
                self.loop.call_soon_threadsafe(self._end.set)
            raise
        if self._failures:
            self._thread.join()
            raise self._failures[0]

    def alive(self) -> bool:
        """Whether its loop turns, in this process."""
        return self._thread.is_alive() and self._pid == os.getpid()

    def stop(self) -> None:
        """Close the gateway and end the thread."""
        if not self.alive() or threading.current_thread() is self._thread:
            return
        self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(CLOSE_WITHIN)

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - the thread that waits raises it
            self._failures.append(error)
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self.gateway = await self._open_gateway()
        self._ready.set()
        if not self._unwanted:
            await self._end.wait()
        await self.gateway.close()
