"""Which event loop JobMaster's own threads and processes run on: uvloop's where it is installed."""

from __future__ import annotations

import asyncio
import os
from typing import Final

VARIABLE: Final = "JOBMASTER_EVENT_LOOP"
"""`asyncio` chooses Python's own loop although uvloop is installed."""


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A new loop of uvloop's, or of asyncio's where uvloop is missing, cannot be loaded, or is not wanted."""
    if os.environ.get(VARIABLE, "").strip().lower() != "asyncio":
        try:
            import uvloop
        except ImportError:
            pass
        else:
            made: asyncio.AbstractEventLoop = uvloop.new_event_loop()
            return made
    return asyncio.new_event_loop()
