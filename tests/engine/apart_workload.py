"""What the processes of test_pools_apart.py run."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Coroutine
from typing import Any

from jobmaster.errors import SoftTimeLimitExceeded
from jobmaster.model.backoff import Backoff
from jobmaster.model.policy import TaskPolicy
from jobmaster.model.run import End, Ended, Run


class ApartWorkload:
    """Tasks by name."""

    def policy(self, task: str) -> TaskPolicy | None:
        return TaskPolicy(name=task, is_async=task in {"coroutine", "sleeps"}, backoff=Backoff())

    def invoke_async(self, run: Run) -> Coroutine[Any, Any, Ended]:
        return self._sleeps() if run.envelope.task == "sleeps" else self._where()

    async def _where(self) -> Ended:
        await asyncio.sleep(0.01)
        return Ended(End.RETURNED, result=f"{os.getpid()} {id(asyncio.get_running_loop())}".encode())

    async def _sleeps(self) -> Ended:
        try:
            await asyncio.sleep(60)
        except SoftTimeLimitExceeded:
            return Ended(End.RETURNED, result=b"told")
        return Ended(End.RETURNED)

    def invoke_sync(self, run: Run) -> Ended:
        if run.envelope.task == "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(60)
        return Ended(End.RETURNED)


def workload(_arguments: bytes) -> ApartWorkload:
    """The entry."""
    return ApartWorkload()
