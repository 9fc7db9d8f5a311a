"""When a task is tried again, by Celery's rules: pure functions."""

from __future__ import annotations

from collections.abc import Callable


def may_retry(retries: int, max_retries: int | None) -> bool:
    """Whether another attempt may follow after `retries` retries; None: always. 3 means four attempts in all."""
    return max_retries is None or retries < max_retries


def backoff_seconds(
    retry_backoff: float, *, retries: int, maximum: float, jitter: bool, draw: Callable[[int], int]
) -> int:
    """Seconds until the next attempt of a task with `retry_backoff`: it times 2 ** retries, at most `maximum`.

    `draw(n)` gives a whole number below n; with jitter it chooses between 0 and that time.
    """
    factor = int(max(1.0, float(retry_backoff)))
    # 2**64 seconds are above every maximum; a bigger power would only cost memory.
    seconds = int(min(maximum, factor * 2 ** min(retries, 64)))
    return max(0, draw(seconds + 1) if jitter else seconds)
