"""The program of a pool's process: `python -m jobmaster.engine.pools.process_child`, started by an engine only.

It imports the user's code, then runs one job after the other on its main thread, as each comes; a coroutine on a loop
that stays the same for all of them. Its engine ends it: gently, by closing the socket, or by a kill.
"""

from __future__ import annotations

import asyncio
import contextvars
import faulthandler
import os
import pkgutil
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import msgspec

from jobmaster.engine.garbage import collect_rarely
from jobmaster.engine.links import framing
from jobmaster.engine.links.copies import let_copies_end
from jobmaster.engine.links.leaving import leave, words_for
from jobmaster.engine.links.orphans import die_with_parent
from jobmaster.engine.links.starting import heed_signals
from jobmaster.engine.pools.ending import from_exception
from jobmaster.engine.pools.loop import LoopPool
from jobmaster.engine.pools.sent import PoolLaunch, SentEnd, SentRun
from jobmaster.engine.pools.soft_limit import SoftLimit
from jobmaster.errors import SoftTimeLimitExceeded
from jobmaster.event_loop import run_to_the_end
from jobmaster.model.job import decode_envelope
from jobmaster.model.run import Halt, Run

if TYPE_CHECKING:
    from jobmaster.model.run import Ended
    from jobmaster.ports.workload import Workload

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SentRun)


class PoolProcess:
    """One run of this program."""

    def __init__(self, peer: socket.socket, soft_limit: SoftLimit) -> None:
        self._peer = peer
        self._soft_limit = soft_limit
        self._pid = os.getpid()
        self._number = 0
        """The run that is under way, or 0."""
        self._coroutines: Coroutines | None = None

    def main(self) -> int:
        """Prepare, then run jobs until the engine closes the socket; the answer is the exit code."""
        try:
            _, payload = framing.receive(self._peer)
            launch = msgspec.msgpack.decode(payload, type=PoolLaunch)
            entry: Callable[[bytes], Workload] = pkgutil.resolve_name(launch.entry)
            workload = entry(launch.arguments)
        except EOFError:
            return 0
        except BaseException as error:  # noqa: BLE001 - `sys.exit()` in a user's module, too, is a reason not to start
            self._send(framing.FAILURE, words_for(error).encode(errors="replace"))
            return 1
        collect_rarely()
        signal.signal(signal.SIGUSR1, self._soft_limit_passed)
        try:
            self._send(framing.READY, b"")
            while True:
                _, payload = framing.receive(self._peer)
                sent = _decoder.decode(payload)
                ended = self._execute(workload, sent)
                if os.getpid() != self._pid:
                    os._exit(0)  # the run has forked and went on in the copy: the socket is its parent's
                spoilt = self._coroutines is not None and self._coroutines.spoilt
                self._send(framing.END, _encoder.encode(_told(sent.number, ended, is_last=spoilt)))
        except (EOFError, OSError):
            return 0

    def _execute(self, workload: Workload, sent: SentRun) -> Ended:
        """Run to the end. The soft limit's exception may strike anywhere in here, but not after it."""
        ended: Ended | None = None
        try:
            ended = contextvars.copy_context().run(self._invoke, workload, _run_of(sent), sent.number)
            self._number = 0
        except BaseException as error:  # noqa: BLE001 - a task that calls sys.exit() ends alone
            self._number = 0
            ended = ended or from_exception(error, None)
        return ended

    def _invoke(self, workload: Workload, run: Run, number: int) -> Ended:
        policy = workload.policy(run.envelope.task)
        if policy is None or not policy.is_async:
            self._begin(number)
            return workload.invoke_sync(run)
        if self._coroutines is None:
            self._coroutines = Coroutines(workload)
        self._coroutines.prepare(run)
        self._begin(number)
        return self._coroutines.run(run)

    def _begin(self, number: int) -> None:
        """From here on the soft limit strikes the run; its signal may have come before the run itself."""
        self._number = number
        self._soft_limit_passed()

    def _soft_limit_passed(self, *_: object) -> None:
        if not self._number or not self._soft_limit.has_passed_for(self._number):
            return
        if self._coroutines is None or not self._coroutines.pass_soft_limit():
            raise SoftTimeLimitExceeded("the run's soft time limit passed")

    def _send(self, kind: bytes, payload: bytes) -> None:
        self._peer.sendall(framing.frame(kind, payload))


class Coroutines:
    """Runs one coroutine after the other, as the engine's own loop does."""

    def __init__(self, workload: Workload) -> None:
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._pool = self._runner.run(self._new_pool(workload))
        self._running: Run | None = None
        self._is_submitted = self._is_late = False
        self.spoilt = False
        """A coroutine may still be on the loop though its run has ended: nothing else may run there."""

    def prepare(self, run: Run) -> None:
        """Take in what is passed on to this run, which is about to begin."""
        self._running, self._is_submitted, self._is_late = run, False, False

    def run(self, run: Run) -> Ended:
        """Run to the end what was prepared."""
        try:
            return run_to_the_end(self._loop, self._loop.create_task(self._ended(run)))
        except BaseException:
            self.spoilt = True
            raise
        finally:
            self._running = None

    def pass_soft_limit(self) -> bool:
        """Have the soft limit raised in the coroutine that runs; False: none does."""
        if self._running is None:
            return False
        # From a handler of signals: the loop may be asleep, and only this wakes it.
        self._loop.call_soon_threadsafe(self._soften, self._running)
        return True

    def _soften(self, run: Run) -> None:
        if run is not self._running:
            return
        if self._is_submitted:
            self._pool.halt(run.key, Halt.SOFT_LIMIT)
        else:
            self._is_late = True

    async def _new_pool(self, workload: Workload) -> LoopPool:
        return LoopPool(workload)

    async def _ended(self, run: Run) -> Ended:
        end: asyncio.Future[Ended] = self._loop.create_future()
        self._pool.finished = lambda ends: end.set_result(ends[0][1])
        self._pool.submit([run])
        self._is_submitted = True
        if self._is_late:
            self._pool.halt(run.key, Halt.SOFT_LIMIT)
        return await end


def _run_of(sent: SentRun) -> Run:
    return Run(
        sent.key,
        decode_envelope(sent.payload),
        sent.payload,
        sent.attempt,
        sent.failures,
        sent.max_retries,
        sent.scheduled_us,
        sent.deadline_us,
        sent.timeout,
        sent.soft_timeout,
        sent.worker,
        sent.checkpoint,
    )


def _told(number: int, ended: Ended, *, is_last: bool) -> SentEnd:
    return SentEnd(
        number,
        ended.end.value,
        ended.result,
        ended.error,
        ended.reason,
        ended.retryable,
        ended.countdown,
        ended.max_retries,
        ended.checkpoint,
        is_last,
    )


def main(arguments: list[str]) -> NoReturn:
    """Run the program with the descriptors and the parent's process id that the engine gave on the command line."""
    shared, peer, lifeline, parent = map(int, arguments)
    die_with_parent(parent=parent, lifeline=lifeline)
    for descriptor in (peer, lifeline):  # programs that tasks start must not hold them open
        os.set_inheritable(descriptor, False)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
        # The engine decides when this process ends, also where systemd tells the whole group. A handler, not SIG_IGN,
        # which programs that a task starts would inherit.
        signal.signal(number, lambda _number, _frame: None)
    heed_signals()
    let_copies_end()
    if sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)
    soft_limit = SoftLimit(shared)
    os.close(shared)
    leave(PoolProcess(socket.socket(fileno=peer), soft_limit).main())


if __name__ == "__main__":
    main(sys.argv[1:])
