"""Going on after trouble: waits with jitter that grow while a store does not answer (I8)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from jobmaster.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("jobmaster.engine")

_FIRST, _LAST = 0.05, 2.0


class Backoff:
    """The waits of one duty. The first is short; each failure in a row doubles it, up to two seconds.

    Args:
        duty: its name, for the log.
        random: numbers in [0, 1), for jitter.
        heard: told every error.
    """

    def __init__(
        self, *, duty: str, random: Callable[[], float], heard: Callable[[Exception], None] = lambda _error: None
    ) -> None:
        self._duty = duty
        self._random = random
        self._heard = heard
        self._failures = 0

    def succeeded(self) -> None:
        """The store answered."""
        if self._failures:
            logger.info("store_answers duty=%s after_failures=%d", self._duty, self._failures)
        self._failures = 0

    async def wait_after(self, error: Exception) -> None:
        """Wait before the next try; the first failure of a row is logged as a warning, later ones at debug level."""
        self._tell(error)
        self._heard(error)
        self._failures += 1
        await self.wait(self._failures)

    def _tell(self, error: Exception) -> None:
        expected = isinstance(error, StoreUnavailable)
        if self._failures:
            logger.debug("store_does_not_answer duty=%s error=%r", self._duty, error)
        elif expected:
            logger.warning("store_does_not_answer duty=%s error=%s", self._duty, error)
        else:
            logger.error("duty_failed duty=%s error=%r: it is tried again", self._duty, error, exc_info=error)

    async def wait(self, failures: int) -> None:
        """Wait as after so many failures."""
        delay = min(_FIRST * 2 ** min(failures, 10), _LAST)
        await asyncio.sleep(delay * (0.5 + self._random() / 2))
