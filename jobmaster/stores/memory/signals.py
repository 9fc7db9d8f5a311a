"""Hints inside one process: who listens to a topic is called on the loop on which it subscribed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Listener:
    """A running subscription."""

    def __init__(self, hub: SignalHub, topic: str, callback: Callable[[], None]) -> None:
        self._hub, self._topic, self._callback = hub, topic, callback
        self._loop = asyncio.get_running_loop()
        self._called = False

    def close(self) -> None:
        """End it. May be called twice."""
        self._hub.forget(self._topic, self)
        self._callback = _ignore

    def call(self) -> None:
        """Call back soon; hints that come before are one."""
        if self._called or self._loop.is_closed():
            return
        self._called = True
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        (self._loop.call_soon if here else self._loop.call_soon_threadsafe)(self._run)

    def _run(self) -> None:
        self._called = False
        self._callback()


class SignalHub:
    """Topics and their listeners."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Listener]] = {}

    def subscribe(self, topic: str, callback: Callable[[], None]) -> Listener:
        """Listen to a topic until the answer is closed."""
        listener = Listener(self, topic, callback)
        self._listeners.setdefault(topic, []).append(listener)
        return listener

    def forget(self, topic: str, listener: Listener) -> None:
        """Drop a listener, if it is there."""
        listeners = self._listeners.get(topic, [])
        if listener in listeners:
            listeners.remove(listener)
        if not listeners:
            self._listeners.pop(topic, None)

    def send(self, topics: Iterable[str]) -> None:
        """Tell all who listen to these topics."""
        for topic in topics:
            for listener in list(self._listeners.get(topic, ())):
                listener.call()


def _ignore() -> None:
    """A hint that came after its subscription ended."""
