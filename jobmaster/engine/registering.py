"""How a worker takes its place in the cluster, once for each boot (R4)."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobmaster.errors import ConfigurationError, StoreUnavailable
from jobmaster.ports.answers import Refused

if TYPE_CHECKING:
    from jobmaster.engine.persistence import Backoff
    from jobmaster.model.worker import Registered, Registration
    from jobmaster.ports.store import Store

logger = logging.getLogger("jobmaster.engine")

_HIGHER_BOOT = re.compile(r"boot=(\d+)")


async def register(store: Store, registration: Registration, *, pause: Backoff) -> Registered:
    """Register until the master answers.

    Raises:
        ConfigurationError: a newer worker has this name.
    """
    while True:
        try:
            registered = await store.register(registration)
        except Refused as answer:
            registration = _next_boot(registration, answer)
        except StoreUnavailable as error:
            await pause.wait_after(error)
        else:
            logger.info("worker_registered worker=%d name=%s", registered.worker, registration.name)
            return registered


def _next_boot(registration: Registration, answer: Refused) -> Registration:
    """Of two boots the higher number wins. Ours follows a worker whose host's clock was ahead."""
    found = _HIGHER_BOOT.search(str(answer))
    if found is None:
        raise ConfigurationError(
            f"a newer worker named {registration.name!r} is running. Two workers need two names: give this one "
            "another with --name, or stop the other."
        ) from answer
    return replace(registration, boot=int(found[1]) + 1)
