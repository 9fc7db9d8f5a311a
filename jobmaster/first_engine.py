"""The engine process that imports the app first of all, as the supervisor's process sees it: what it answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from jobmaster.engine.links.processes import ProcessChild
from jobmaster.errors import ConfigurationError
from jobmaster.findings import Answer, Found, Unusable
from jobmaster.ports.link import CANNOT_START

if TYPE_CHECKING:
    from jobmaster.engine.links.starting import StartedEngine
    from jobmaster.worker_order import WorkerOrder

ANSWER_WITHIN: Final = 300.0
"""Seconds that the import of an app may take."""
DISMISSED_WITHIN: Final = 2.0
"""Seconds that a first engine gets to end by itself when it is not wanted."""


class AppUnusable(ConfigurationError):  # noqa: N818 - as the tree of errors names them
    """There is no app to run, or it cannot be imported.

    Attributes:
        details: the traceback of the user's own code, may be empty.
    """

    def __init__(self, unusable: Unusable) -> None:
        super().__init__(unusable.message)
        self.details = unusable.details


class FirstEngine:
    """The engine process that imports the app first of all. To be made on the loop that will keep it.

    Args:
        order: what it was started with.
        started: see `early_start.start_first_engine`.
    """

    def __init__(self, order: WorkerOrder, started: StartedEngine) -> None:
        self._order = order
        self._news = asyncio.Event()
        self.child = ProcessChild(started)
        self.child.on_news = self._news.set

    async def look(self) -> Found:
        """Wait until it says what the app is.

        Raises:
            AppUnusable: the app cannot be used, and the process has ended; the text says why.
        """
        try:
            await self.child.listen()
            await self._until_answered()
            return self._found()
        except BaseException:
            await self.dismiss()
            raise

    def go_on(self) -> None:
        """Let it be engine 0."""
        self.child.go_on()

    async def dismiss(self) -> None:
        """End it, unless it has ended: it may have a lease to give back."""
        self.child.on_news = self._news.set
        if self.child.exit_reason() is None:
            self.child.terminate()
        with contextlib.suppress(TimeoutError):
            await self._until(lambda: self.child.exit_reason() is not None, seconds=DISMISSED_WITHIN)
        self.child.kill()
        await self._until(lambda: self.child.exit_reason() is not None, seconds=None)

    async def _until(self, condition: Callable[[], bool], *, seconds: float | None) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def _until_answered(self) -> None:
        child = self.child
        try:
            await self._until(lambda: (child.answer or child.exit_reason()) is not None, seconds=ANSWER_WITHIN)
        except TimeoutError:
            raise AppUnusable(
                Unusable(
                    message=f"Importing the app took longer than {ANSWER_WITHIN:g} s. A module must not run the "
                    "program, or wait for something, when it is imported."
                )
            ) from None

    def _found(self) -> Found:
        if self.child.answer is None:
            raise AppUnusable(self._silence())
        told = msgspec.msgpack.decode(self.child.answer, type=Answer)
        if told.found is None:
            raise AppUnusable(told.unusable or Unusable(message="The app cannot be used."))
        return told.found

    def _silence(self) -> Unusable:
        """Why it ended without an answer."""
        reason = self.child.exit_reason() or ""
        if reason.startswith(CANNOT_START):
            words = reason.removeprefix(CANNOT_START)
            return Unusable(message=f"The app {self._order.place!r} cannot be imported.", details=words + "\n")
        code = reason.removeprefix("exit ")
        why = f"it was ended by {reason}" if code == reason else f"it ended with exit code {code}"
        return Unusable(
            message=f"The app {self._order.place!r} cannot be imported: the process that tried gave no answer ({why}). "
            "Does a module end the program when it is imported?"
        )
