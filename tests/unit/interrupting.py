"""Interrupts a call at every point where Python lets a signal's handler raise, one point after the other.

CPython looks for signals when a function begins, when a loop goes back, and after a call into C. An exception that a
handler raises there is seen by the code as if it came from that instruction.

From Python 3.12 on, instructions are traced only in code that was traced before, and not run without it since: tests
that need each of them run on 3.11.
"""

from __future__ import annotations

import ctypes
import dis
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import jobmaster

PACKAGE = str(Path(jobmaster.__file__).parent)
LOOKS = ("CALL", "RESUME", "JUMP_BACKWARD")


class Interruption(BaseException):
    """What a signal's handler raises."""


def interrupted_at(point: int, call: Callable[[], object]) -> bool:
    """Call, and interrupt it at this point (from 0 on) inside the package; False: it has fewer, and ended by itself."""
    try:
        with interrupting(point) as tracer:
            call()
    except Interruption:
        return True
    return tracer.left < 0


@contextmanager
def interrupting(point: int) -> Iterator[Tracer]:
    """The same for a block. A tracer that raises traces no more: a second interruption needs a block of its own."""
    _await_no_exceptions_of_others()
    tracer = Tracer(point)
    before = sys.gettrace()
    sys.settrace(tracer.enter)
    try:
        yield tracer
    finally:
        sys.settrace(before)


def _await_no_exceptions_of_others() -> None:
    """End the interpreter's search for an exception that was sent to a thread which ended before it had it.

    It would look before each instruction, for ever, and CPython 3.11 that traces a function never gets past its start.
    One that is sent and taken ends that.
    """
    own = ctypes.c_ulong(threading.get_ident())
    try:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(own, ctypes.py_object(Interruption))
        while True:
            pass
    except Interruption:
        pass


class Tracer:
    """Counts the points that are left in `left`; below 0: the interruption was raised."""

    def __init__(self, point: int) -> None:
        self.left = point
        self._last: dict[FrameType, int] = {}
        """By frame: the offset of the instruction that was begun last."""

    def enter(self, frame: FrameType, _event: str, _data: Any) -> Any:
        """A call begins: follow it where it is the package's own code. Others may be interrupted before they return."""
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if frame.f_back is not None:
            self._last.pop(frame.f_back, None)  # it was no call into C, or into others' code
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self.step

    def step(self, frame: FrameType, event: str, _data: Any) -> Any:
        """An instruction is about to begin: the one before it has ended."""
        if event == "opcode":
            last = self._last.get(frame)
            self._last[frame] = frame.f_lasti
            if last is not None and _looks(frame.f_code, last):
                self.left -= 1
                if self.left == -1:
                    raise Interruption
        elif event in {"return", "exception"}:
            self._last.pop(frame, None)
        return self.step


_KNOWN: dict[CodeType, dict[int, bool]] = {}


def _looks(code: CodeType, offset: int) -> bool:
    known = _KNOWN.get(code)
    if known is None:
        known = _KNOWN[code] = {
            each.offset: each.opname.startswith(LOOKS) and each.opname != "JUMP_BACKWARD_NO_INTERRUPT"
            for each in dis.get_instructions(code)
        }
    return known[offset]
