"""Orders from people: ping, stop, pause, resume, concurrency, revoke.

They come with a grant and are answered in the master.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from jobmaster.errors import StoreUnavailable
from jobmaster.model.ids import parse_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.engine.persistence import Backoff
    from jobmaster.engine.runner import Runner
    from jobmaster.model.worker import Command, Grant
    from jobmaster.ports.store import Store

logger = logging.getLogger("jobmaster.engine")

_REMEMBERED = 1000


class Commands:
    """Obeys each command once, and repeats its answer until the master has it."""

    def __init__(
        self,
        *,
        store: Store,
        runner: Runner,
        pause: Backoff,
        stop: Callable[[], None],
        describe: Callable[[], dict[str, object]],
    ) -> None:
        self._store = store
        self._runner = runner
        self._pause = pause
        self._stop = stop
        self._describe = describe
        self._answers: dict[int, bytes] = {}
        self._queue: asyncio.Queue[Command] = asyncio.Queue()

    def granted(self, grant: Grant) -> None:
        """Take in the commands of a renewal's reply; one that was obeyed already is only answered again."""
        for command in grant.commands:
            self._queue.put_nowait(command)

    async def run(self) -> None:
        """Obey until cancelled."""
        while True:
            command = await self._queue.get()
            if command.id not in self._answers:
                self._answers[command.id] = msgspec.json.encode(self._obey(command))
                while len(self._answers) > _REMEMBERED:
                    del self._answers[next(iter(self._answers))]
            await self._answer(command)
            if command.verb == "stop":
                self._stop()

    async def _answer(self, command: Command) -> None:
        while True:
            try:
                await self._store.answer_command(command.id, self._answers[command.id])
            except StoreUnavailable as error:
                await self._pause.wait_after(error)
            except Exception:
                logger.exception("command_not_answered verb=%s id=%d", command.verb, command.id)
                return
            else:
                self._pause.succeeded()
                return

    def _obey(self, command: Command) -> dict[str, object]:
        logger.info("command verb=%s id=%d", command.verb, command.id)
        try:
            args = msgspec.json.decode(command.args, type=dict[str, object])
        except msgspec.DecodeError as error:
            return {"ok": False, "error": f"the arguments are no JSON object: {error}"}
        match command.verb:
            case "ping" | "stop":
                return {"ok": True, **self._describe()}
            case "pause":
                self._runner.paused = True
                return {"ok": True, "paused": True}
            case "resume":
                self._runner.paused = False
                self._runner.wake()
                return {"ok": True, "paused": False}
            case "concurrency":
                return self._set_concurrency(args.get("slots"))
            case "revoke":
                return self._revoke(args.get("jobs"))
        return {"ok": False, "error": f"this worker does not know the command {command.verb!r}"}

    def _set_concurrency(self, slots: object) -> dict[str, object]:
        if not isinstance(slots, int) or not 1 <= slots <= _MOST_SLOTS:
            return {"ok": False, "error": f"slots must be a whole number from 1 to {_MOST_SLOTS}, not {slots!r}"}
        self._runner.slots = slots
        self._runner.wake()
        return {"ok": True, "slots": slots}

    def _revoke(self, jobs: object) -> dict[str, object]:
        """What waits here ends as Cancelled, what runs is stopped, what comes later does not start."""
        if not isinstance(jobs, list) or not jobs or not all(isinstance(job, str) and job for job in jobs):
            return {"ok": False, "error": f"jobs must be a list of job ids, not {jobs!r:.80}"}
        keys = {parse_key(job)[0]: job for job in jobs}
        here = self._runner.holds(keys)
        self._runner.cancel(list(keys))
        return {"ok": True, "revoked": [keys[key] for key in here]}


_MOST_SLOTS = 10_000
