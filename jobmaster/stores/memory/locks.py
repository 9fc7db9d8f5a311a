"""Row locks, so that two transactions in memory can wait for each other as they would in a database."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Pause = Callable[[], Awaitable[None]] | None
"""What a transaction awaits between its row locks and its commit; None: it commits in the same step."""


class RowLock:
    """Shared and exclusive lock of one row. A waiting writer keeps new readers out. Free, it never suspends."""

    def __init__(self) -> None:
        self._readers = 0
        self._writer = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> bool:
        """Nobody holds it (for SKIP LOCKED)."""
        return not self._readers and not self._writer

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Hold it together with other readers."""
        await self._until(lambda: not self._writer)
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            self._wake()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Hold it alone."""
        await self._until(lambda: not self._writer)
        self._writer = True
        try:
            await self._until(lambda: not self._readers)
            yield
        finally:
            self._writer = False
            self._wake()

    async def _until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
