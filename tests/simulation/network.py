"""The way between a process and a store: calls are delayed, fail, lose their reply, apply late or twice.

A call is carried out outside of all processes: the death of its caller does not stop it.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from jobmaster.errors import OutcomeUnknown, StoreUnavailable
from jobmaster.model.job import NewJob
from jobmaster.ports.answers import Refused
from tests.simulation.virtual_loop import Process, VirtualLoop

PATIENCE = 2.0
"""Seconds after which a store's adapter gives a call up (accept timeout and statement time-outs of real adapters)."""
LATEST = 14.0
"""Seconds after which a call that was given up may still take effect."""


@dataclass(frozen=True)
class FaultRates:
    """Chance of each fault per call or signal, while faults are on."""

    fail: float = 0.01
    lose_reply: float = 0.01
    late: float = 0.008
    double: float = 0.008
    slow: float = 0.02
    lose_signal: float = 0.15
    double_signal: float = 0.1


COUNTED = frozenset(
    {"give_up", "return_bucket", "retire", "claim_drain", "drain", "hand_over", "close", "reopen", "mark_lost", "claim",
     "drain_orphan", "reread", "recover_before", "set_free", "sweep", "offer_bucket"}
)  # fmt: skip
"""Verbs of which a campaign says how often they did something."""
MEANT = frozenset({"claim_drain"})
"""Of these, None means that nothing was done."""
NO_FAULTS = FaultRates(0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Call:
    """One call as the server sees it, for the history."""

    number: int
    process: Process
    server: str
    verb: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Told:
    """What a directed test does to a call: it is carried out late, its reply comes late, or never."""

    lost: bool = False
    reply_after: float = 0.0
    apply_after: float = 0.001


class Server:
    """A store behind the network, `latency` seconds away (mean)."""

    def __init__(self, name: str, store: Any, latency: float) -> None:
        self.name, self.store, self.latency = name, store, latency
        self.last_applied: dict[int, int] = {}


current_call: contextvars.ContextVar[Call | None] = contextvars.ContextVar("current_call", default=None)
"""The call that a store carries out now."""


class Network:
    """Carries calls and signals, and breaks them. `stats` counts how often each fault struck."""

    def __init__(
        self, loop: VirtualLoop, rng: random.Random, stats: collections.Counter[str], rates: FaultRates
    ) -> None:
        self.loop, self.rng, self.stats, self.rates = loop, rng, stats, rates
        self.world = contextvars.Context()
        self.on = True
        self.script: Callable[[Call], Told | None] | None = None
        self._slow_replies: dict[int, float] = {}
        self.ended: Callable[[Call], None] = lambda _: None
        """Called after each call that was carried out."""
        self.refused: Callable[[Call, Refused], None] = lambda *_: None
        """Called when the server said no."""
        self.doubted: Callable[[Call], None] = lambda _: None
        """Called when a call's caller will not know whether, or how often, it took effect."""

    def later(self, delay: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        """Call it in the world outside of all processes."""
        return self.loop.call_later(delay, callback, *args, context=self.world)

    async def call(
        self, process: Process, server: Server, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The call's result, or what the caller's adapter makes of its failure."""
        process.check()
        rng, rates = self.rng, self.rates
        call = Call(next(self.loop.numbers), process, server.name, verb, args, kwargs)
        reply: asyncio.Future[Any] = self.loop.create_future()
        self.stats["calls"] += 1
        delay = rng.expovariate(1 / server.latency)
        fate = rng.random() if self.on else 1.0
        told = self.script(call) if self.script is not None else None
        if told is not None:
            self._follow(told, call, server, reply)
        elif server.name in process.cut:
            self._struck("call into a cut")
            self._give_up(reply, certain=rng.random() < 0.5)
        elif fate < rates.fail:
            self._struck("call failed before its effect")
            self.later(delay, _fail, reply, StoreUnavailable(f"{verb}: no effect (simulated)"))
        elif fate < (edge := rates.fail + rates.lose_reply):
            self._struck("reply lost")
            self.doubted(call)
            self.later(delay, self._start, call, server, None)
            self._give_up(reply, certain=False)
        elif fate < (edge := edge + rates.late):
            self._struck("applied after the caller gave up")
            self.doubted(call)
            self.later(rng.uniform(PATIENCE, LATEST), self._start, call, server, None)
            self._give_up(reply, certain=False)
        elif fate < (edge := edge + rates.double):
            self._struck("applied twice")
            self.doubted(call)
            self.later(delay, self._start, call, server, reply)
            self.later(delay + rng.uniform(0, LATEST), self._start, call, server, None)
        else:
            if fate < edge + rates.slow:
                if rng.random() < 0.5:
                    self._struck("delayed")
                    delay += rng.uniform(0.1, 1.8)
                else:
                    self._slow_replies[call.number] = rng.uniform(0.1, 1.8)
            self.later(delay, self._start, call, server, reply)
        try:
            return await reply
        except asyncio.CancelledError:
            self.doubted(call)
            raise

    def _follow(self, told: Told, call: Call, server: Server, reply: asyncio.Future[Any]) -> None:
        """Do to this call what a directed test wants."""
        if told.lost:
            self.doubted(call)
            self._give_up(reply, certain=False)
        if told.reply_after:
            self._slow_replies[call.number] = told.reply_after
        self.later(told.apply_after, self._start, call, server, None if told.lost else reply)

    def _struck(self, kind: str) -> None:
        self.stats["fault: " + kind] += 1

    def _give_up(self, reply: asyncio.Future[Any], *, certain: bool) -> None:
        if certain:
            self.later(0.05, _fail, reply, StoreUnavailable("no connection (simulated)"))
        else:
            wait = PATIENCE if self.rng.random() < 0.5 else 0.05
            self.later(wait, _fail, reply, OutcomeUnknown("the reply was lost (simulated)"))

    def _start(self, call: Call, server: Server, reply: asyncio.Future[Any] | None) -> None:
        last = server.last_applied.get(call.process.pid, 0)
        if call.number < last:
            self._struck("reordered")
        server.last_applied[call.process.pid] = max(last, call.number)
        context = self.world.copy()
        context.run(current_call.set, call)
        self.loop.create_task(self._carry_out(call, server, reply), context=context)

    async def _carry_out(self, call: Call, server: Server, reply: asyncio.Future[Any] | None) -> None:
        result, error = None, None
        try:
            result = await getattr(server.store, call.verb)(*call.args, **call.kwargs)
        except Exception as problem:  # noqa: BLE001 - answers of the store, handed to the caller as they are
            error = problem
        if (
            error is None
            and call.verb in COUNTED
            and result not in (0, [], False)
            and (result is not None or call.verb not in MEANT)
            and getattr(result, "messages", True)
        ):
            self.stats["done: " + call.verb] += 1
        self.ended(call)
        if isinstance(error, Refused):
            self.refused(call, error)
        if reply is None or reply.done():
            return
        if server.name in call.process.cut:
            self._struck("cut before the reply")
            self.doubted(call)
            self._give_up(reply, certain=False)
            return
        back = self.rng.expovariate(1 / server.latency)
        if call.number in self._slow_replies:
            self._struck("reply delayed")
            back += self._slow_replies.pop(call.number)
        self.later(back, _deliver, reply, result, error)

    def signal(self, process: Process, callback: Callable[[], None]) -> None:
        """A store's hint on its way to a process."""
        if not process.alive:
            return
        rng = self.rng
        times = 1
        if self.on and rng.random() < self.rates.lose_signal:
            self._struck("signal lost")
            times = 0
        elif self.on and rng.random() < self.rates.double_signal:
            self._struck("signal doubled")
            times = 2
        for _ in range(times):
            self.later(rng.expovariate(500), process.call, callback)


def _deliver(reply: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if reply.done():
        return
    if error is not None:
        reply.set_exception(error)
    else:
        reply.set_result(result)


def _fail(reply: asyncio.Future[Any], error: Exception) -> None:
    if not reply.done():
        reply.set_exception(error)


class _Subscription:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def close(self) -> None:
        self._inner.close()


class RemoteStore:
    """A process's handle on a server: every verb of the port goes through the network."""

    def __init__(self, network: Network, process: Process, server: Server) -> None:
        self._network, self._process, self._server = network, process, server

    @property
    def gapless(self) -> bool:
        return bool(self._server.store.gapless)

    @property
    def standalone(self) -> bool:
        return bool(self._server.store.standalone)

    def subscribe(self, topic: str, callback: Callable[[], None]) -> _Subscription:
        self._process.check()
        return _Subscription(self._server.store.subscribe(topic, lambda: self._network.signal(self._process, callback)))

    async def close_store(self) -> None:
        """The process closes its own connection; the server stays."""

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        if verb.startswith("_"):
            raise AttributeError(verb)
        network, process, server = self._network, self._process, self._server

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await network.call(process, server, verb, args, kwargs)

        setattr(self, verb, call)
        return call


def jobs_in(call: Call) -> Sequence[NewJob]:
    """The jobs that an accepting call carries."""
    found: Collection[Any] = ()
    if call.verb == "push":
        found = call.args[1] if len(call.args) > 1 else call.kwargs["jobs"]
    elif call.verb == "hold":
        found = call.args[0] if call.args else call.kwargs["jobs"]
    return tuple(found)
