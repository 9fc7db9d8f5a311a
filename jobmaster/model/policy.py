"""How the runs of a task are limited and repeated."""

from __future__ import annotations

import msgspec

from jobmaster.model.backoff import Backoff


class TaskPolicy(msgspec.Struct, frozen=True):
    """A registered task's defaults, as its own process knows them; an envelope's own values win over them.

    Limits are seconds; None: no limit.
    """

    name: str
    is_async: bool
    timeout: float | None = 300.0
    soft_timeout: float | None = None
    max_retries: int = 3
    backoff: Backoff = Backoff()
    at_most_once: bool = False
