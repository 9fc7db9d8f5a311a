"""A memory store whose answers can be arranged: refused, lost before or after they took effect, or delayed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from jobmaster.errors import OutcomeUnknown, StoreUnavailable
from jobmaster.gateway import Connections
from jobmaster.ports.answers import Refused
from jobmaster.stores.memory.store import MemoryStore

REFUSED = "refused"
DOWN = "down"
REPLY_LOST = "reply lost"
CALL_LOST = "call lost"
SILENT = "silent"


class FaultyStore(MemoryStore):
    """`plan["push"]` holds what happens to the next calls of `push`, first to last; then all is well again."""

    def __init__(self) -> None:
        super().__init__()
        self.plan: dict[str, list[str]] = defaultdict(list)
        self.calls: list[tuple[str, Any]] = []

    async def push(self, bucket: int, jobs: Any) -> None:
        self.calls.append(("push", (bucket, list(jobs))))
        await self._play("push", lambda: MemoryStore.push(self, bucket, jobs))

    async def hold(self, jobs: Any, *, reason: str = "") -> list[bool]:
        self.calls.append(("hold", list(jobs)))
        return await self._play("hold", lambda: MemoryStore.hold(self, jobs, reason=reason))

    async def open_buckets(self) -> Any:
        self.calls.append(("open_buckets", None))
        return await self._play("open_buckets", lambda: MemoryStore.open_buckets(self))

    async def look_up(self, keys: Any) -> Any:
        self.calls.append(("look_up", list(keys)))
        return await self._play("look_up", lambda: MemoryStore.look_up(self, keys))

    def calls_of(self, verb: str) -> list[Any]:
        return [what for name, what in self.calls if name == verb]

    async def _play(self, verb: str, call: Any) -> Any:
        fault = self.plan[verb].pop(0) if self.plan[verb] else ""
        if fault == REFUSED:
            raise Refused("closed")
        if fault == DOWN:
            raise StoreUnavailable("down")
        if fault == CALL_LOST:
            raise OutcomeUnknown("no answer")
        if fault == SILENT:
            await asyncio.sleep(3600)
        answer = await call()
        if fault == REPLY_LOST:
            raise OutcomeUnknown("no answer")
        return answer


def connections(store: MemoryStore, *, home: str | None = "standalone") -> Connections:
    return Connections(store=store, agents={"standalone": store}, home=home, questions=store, close=store.close_store)
