"""Interrupts a call at every point where Python lets a signal's handler raise, one point after the other.

CPython looks for signals when a function begins, when a loop goes back, and after a call into C. An exception that a
handler raises there is seen by the code as if it came from that instruction.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import jobmaster

PACKAGE = str(Path(jobmaster.__file__).parent)
LOOKS = ("CALL", "RESUME", "JUMP_BACKWARD")


class Interruption(BaseException):
    """What a signal's handler raises."""


def interrupted_at(points: Sequence[int], call: Callable[[], object]) -> bool:
    """Call, and interrupt it inside the package.

    Args:
        points: how many chances to raise are passed over before the first interruption, and before each further one,
            which comes while the code deals with the one before.
        call: what to interrupt.

    Returns:
        Whether all of them came; else it has fewer points.
    """
    tracer = _Tracer(points)
    before = sys.gettrace()
    sys.settrace(tracer.enter)
    try:
        call()
    except Interruption:
        pass
    finally:
        sys.settrace(before)
    return not tracer.left


class _Tracer:
    def __init__(self, points: Sequence[int]) -> None:
        self.left = list(points)
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
            if self.left and last is not None and _looks(frame.f_code, last):
                self.left[0] -= 1
                if self.left[0] < 0:
                    self.left.pop(0)
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
