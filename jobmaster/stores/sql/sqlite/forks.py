"""A store and os.fork(): the parent's connections stay the parent's.

Before a fork the threads are stopped outside of SQLite, so that no mutex is copied while it is held. In the child the
connections are neither used nor closed, ever: closing one there would drop locks and files that the parent relies on.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable

LONGEST_WAIT = 2.0


class Forkable(Protocol):
    """What must know of a fork."""

    def gates(self) -> Iterable[threading.Lock]:
        """Locks that the threads hold while they are inside SQLite."""
        ...

    def forked(self) -> list[object]:
        """In the child: give up all that is the parent's, and return what must never be freed."""
        ...


_living: weakref.WeakSet[Forkable] = weakref.WeakSet()
_held: list[threading.Lock] = []


def watch_forks(store: Forkable) -> None:
    """From now on `store` is told of forks, for as long as it lives."""
    _living.add(store)


def _before() -> None:
    for store in list(_living):
        # A write that takes longer than this holds the fork up no further: the child must then not touch SQLite.
        _held.extend(gate for gate in store.gates() if gate.acquire(timeout=LONGEST_WAIT))


def _after_in_parent() -> None:
    while _held:
        _held.pop().release()


def _after_in_child() -> None:
    _held.clear()
    kept: list[object] = []
    for store in list(_living):
        kept += store.forked()
    _living.clear()
    if kept:
        import ctypes

        for thing in kept:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
