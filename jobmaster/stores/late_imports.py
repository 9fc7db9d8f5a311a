"""Modules that are imported on a thread when a store is first used, and os.fork() on another.

A copy that is made in the middle of an import has the import's lock and not the thread that would release it: whoever
imports the module there waits for ever. So a fork waits for the end of such an import.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

LONGEST: Final = 10.0
"""Seconds for which a fork waits at most."""

_lock = threading.RLock()
_here = threading.local()


@contextmanager
def importing() -> Iterator[None]:
    """While modules are imported inside, nobody forks."""
    with _lock:
        yield


def _before() -> None:
    _here.held = _lock.acquire(timeout=LONGEST)


def _after() -> None:
    if _here.held:
        _lock.release()


def _after_in_child() -> None:
    global _lock  # noqa: PLW0603 - the old one may be another thread's, which is not here
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
