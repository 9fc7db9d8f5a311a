"""How often an engine process looks for garbage in cycles."""

from __future__ import annotations

import gc
from typing import Final

_THRESHOLDS: Final = (10_000, 20, 50)
"""Jobs make and free objects that live for milliseconds: with Python's own thresholds the looking costs a fifth of a
short job's time (benchmarks/engine_cost.py), and finds nothing."""


def collect_rarely() -> None:
    """To be called once, when the program's modules are imported: they are looked through no more, and the rest seldom.

    Thresholds that the program has set itself stay as they are.
    """
    gc.collect()
    gc.freeze()
    if gc.get_threshold() == _PYTHONS_OWN:
        gc.set_threshold(*_THRESHOLDS)


_PYTHONS_OWN: Final = gc.get_threshold()
"""As they were when this module was imported: with the engine, before any module of the program."""
