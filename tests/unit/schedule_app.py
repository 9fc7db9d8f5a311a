"""An app on a memory store, whose schedules nobody plans unless a test does."""

from __future__ import annotations

from typing import Any

from jobmaster import JobMaster
from jobmaster.client import Client
from jobmaster.gateway import Connections
from jobmaster.stores.memory.store import MemoryStore
from tests.unit.faulty_store import connections


class App(JobMaster):
    """`store` is its memory store."""

    def __init__(self, cluster_id: str = "unit", **settings: Any) -> None:
        super().__init__(cluster_id, **settings)
        self.store = MemoryStore()

        async def opener() -> Connections:
            return connections(self.store)

        self._client = Client(lambda: self.settings, codec=self.codec, opener=opener)
