"""Raises an exception inside another thread, as far as CPython can: between two bytecodes, not inside of C code."""

from __future__ import annotations

import ctypes


class RunStopped(BaseException):
    """Ends a run in a thread. No `Exception`, so that a task's own error handling lets it pass."""


_set = getattr(getattr(ctypes, "pythonapi", None), "PyThreadState_SetAsyncExc", None)
if _set is not None:
    _set.argtypes = (ctypes.c_ulong, ctypes.py_object)
    _set.restype = ctypes.c_int


def inject(thread: int, kind: type[BaseException]) -> None:
    """Have `kind` raised in the thread with this identifier. It replaces one that is pending there."""
    if _set is not None:
        _set(thread, kind)


def withdraw(thread: int) -> None:
    """Take back what is pending in the thread."""
    if _set is not None:
        _set(thread, ctypes.py_object())
