"""Users' code for the tests of pools: plain functions by name, and what a pool reported about their runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from jobmaster.model.ids import JobKey, new_job_key
from jobmaster.model.job import Envelope, ErrorInfo, encode_envelope
from jobmaster.model.policy import TaskPolicy
from jobmaster.model.run import End, Ended, Finished, Run


def run_of(task: str, argument: object = None, *, soft: float | None = None, timeout: float | None = None) -> Run:
    """A run of the task with one argument."""
    envelope = Envelope(task=task, call=msgspec.msgpack.encode(argument), created_us=1, scheduled_us=1)
    return Run(
        key=new_job_key(),
        envelope=envelope,
        payload=encode_envelope(envelope),
        attempt=1,
        failures=0,
        max_retries=0,
        scheduled_us=1,
        deadline_us=None,
        timeout=timeout,
        soft_timeout=soft,
        worker="w",
    )


def value(ended: Ended) -> object:
    """What the task returned."""
    assert ended.end is End.RETURNED, ended
    return msgspec.msgpack.decode(ended.result or b"")


class FunctionWorkload:
    """Tasks by name. A task that wants to see its run takes it as a second parameter named `run`."""

    def __init__(self, *functions: Callable[..., Any]) -> None:
        self._functions = {function.__name__: function for function in functions}

    def policy(self, task: str) -> TaskPolicy | None:
        function = self._functions.get(task)
        return None if function is None else TaskPolicy(task, is_async=asyncio.iscoroutinefunction(function))

    def _call(self, run: Run) -> Any:
        function = self._functions[run.envelope.task]
        argument = msgspec.msgpack.decode(run.envelope.call)
        if "run" in function.__code__.co_varnames[: function.__code__.co_argcount]:
            return function(argument, run)
        return function(argument)

    def invoke_async(self, run: Run) -> Coroutine[Any, Any, Ended]:
        return self._awaited(run)

    async def _awaited(self, run: Run) -> Ended:
        try:
            return Ended(End.RETURNED, result=msgspec.msgpack.encode(await self._call(run)))
        except Exception as error:  # noqa: BLE001 - as a workload does
            return Ended(End.RAISED, error=ErrorInfo(type(error).__name__, str(error)))

    def invoke_sync(self, run: Run) -> Ended:
        try:
            return Ended(End.RETURNED, result=msgspec.msgpack.encode(self._call(run)))
        except Exception as error:  # noqa: BLE001 - as a workload does
            return Ended(End.RAISED, error=ErrorInfo(type(error).__name__, str(error)))


class Runs:
    """Submits runs and keeps what the pool says about them."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        pool.finished = self._finished
        self.ends: dict[JobKey, list[Ended]] = {}
        self._waiters: dict[JobKey, asyncio.Future[Ended]] = {}

    def submit(self, task: str, argument: object = None, **limits: float) -> JobKey:
        run = run_of(task, argument, **limits)
        self.ends[run.key] = []
        self._waiters[run.key] = asyncio.get_running_loop().create_future()
        self.pool.submit([run])
        return run.key

    def _finished(self, finished: list[Finished]) -> None:
        for run, ended, _at in finished:
            self.ends[run.key].append(ended)
            if len(self.ends[run.key]) == 1:
                self._waiters[run.key].set_result(ended)

    async def end(self, key: JobKey) -> Ended:
        return await asyncio.wait_for(asyncio.shield(self._waiters[key]), 20)

    async def run(self, task: str, argument: object = None) -> Ended:
        return await self.end(self.submit(task, argument))


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that happens in another thread or process."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)
