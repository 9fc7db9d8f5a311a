"""How long to wait before the next attempt: the value. The rule that reads it is a pure function elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta

from jobmaster.errors import ConfigurationError
from jobmaster.model.durations import as_seconds, duration_text

LONGEST = 365 * 86_400.0


@dataclass(frozen=True, slots=True, init=False)
class Backoff:
    """Waiting time before a retry: `base * factor ** (failures - 1)`, at most `cap`.

    Args:
        base: wait after the first failure, seconds or timedelta.
        factor: what each further failure multiplies the wait by; 1 keeps it constant.
        cap: longest wait, seconds or timedelta.
        jitter: True draws the wait between zero and that time (full jitter), so that jobs that failed together
            do not come back together.

    `base` and `cap` are kept as seconds.

    Raises:
        ConfigurationError: a value out of its limits; the text says which and why.
    """

    base: float
    factor: float
    cap: float
    jitter: bool

    def __init__(
        self,
        base: float | timedelta = 5,
        factor: float = 2.0,
        cap: float | timedelta = 3600,
        jitter: bool = True,  # noqa: FBT001, FBT002 - the public API spells it as a plain parameter
    ) -> None:
        # A frozen dataclass refuses plain assignment, in its own __init__ too.
        set_field = object.__setattr__
        set_field(self, "base", _wait(base, "base"))
        set_field(self, "factor", _checked_factor(factor))
        set_field(self, "cap", _wait(cap, "cap"))
        if not isinstance(jitter, bool):
            raise ConfigurationError(f"Backoff(jitter={jitter!r}): jitter is True or False.")
        set_field(self, "jitter", jitter)
        if self.cap < self.base:
            raise ConfigurationError(
                f"Backoff: cap ({duration_text(self.cap)}) is shorter than base ({duration_text(self.base)}), so that "
                "not even the first wait could be kept. Raise cap or lower base."
            )


def _wait(value: float | timedelta, name: str) -> float:
    wait = as_seconds(value, f"Backoff.{name}")
    if not 0 <= wait <= LONGEST:
        raise ConfigurationError(
            f"Backoff.{name} is {duration_text(wait)}: a wait is at least 0 s and at most 365 days, because it is "
            "added to a moment that the database must be able to store. Give a value in between."
        )
    return wait


def _checked_factor(factor: float) -> float:
    if isinstance(factor, bool) or not isinstance(factor, (int, float)):
        raise ConfigurationError(f"Backoff.factor is {factor!r}, but it is a number, such as 2.")
    if not (math.isfinite(factor) and 1 <= factor <= 100):  # noqa: PLR2004 - said in the text below
        raise ConfigurationError(
            f"Backoff.factor is {factor!r}: it is 1 (constant wait) to 100, because a smaller one would retry faster "
            "the longer the fault lasts. Give 1 or more; 2 doubles the wait each time."
        )
    return float(factor)
