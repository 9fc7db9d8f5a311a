"""The signals that end a demo: however it is ended, it cleans up first."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def end_as_by_ctrl_c() -> None:
    """Make each of them raise KeyboardInterrupt."""
    for number in ENDING:
        signal.signal(number, _interrupt)


def only_clean_up() -> None:
    """From here on neither a second Ctrl-C nor a terminal that is closed cuts the cleaning short."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
