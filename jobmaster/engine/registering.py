"""How a worker takes its place in the cluster, once for each boot (R4)."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobmaster.errors import StoreUnavailable
from jobmaster.ports.answers import HigherBoot

if TYPE_CHECKING:
    from jobmaster.engine.persistence import Backoff
    from jobmaster.model.worker import Predecessor, Registered, Registration
    from jobmaster.ports.store import Store

logger = logging.getLogger("jobmaster.engine")


async def register(store: Store, registration: Registration, *, pause: Backoff) -> Registered:
    """Register until the master answers. Of two workers of one name the one that comes later stays."""
    while True:
        try:
            registered = await store.register(registration)
        except HigherBoot as answer:  # of a process that began before this one: its host's clock was ahead
            registration = replace(registration, boot=answer.boot + 1)
        except StoreUnavailable as error:
            await pause.wait_after(error)
        else:
            if registered.replaced is not None and _is_gone(registered.replaced):
                registered = replace(registered, replaced=None)
            _tell(registration, registered)
            return registered


def _is_gone(old: Predecessor) -> bool:
    """Whether that process lived on this host and lives no more: a restart after a kill is no second worker."""
    if old.host != socket.gethostname() or old.pid <= 0:
        return False
    try:
        os.kill(old.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's process
        return False
    try:
        state = Path(f"/proc/{old.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:  # macOS
        return False
    return state in {"Z", "X"}  # it has ended, and nobody has asked how


def _tell(registration: Registration, registered: Registered) -> None:
    logger.info("worker_registered worker=%d name=%s", registered.worker, registration.name)
    old = registered.replaced
    if old is not None:
        logger.warning(
            "worker_replaces name=%s host=%s pid=%d seen_before=%.1fs: the lease of that process was alive and has "
            "been ended. If it still runs, give one of the two another --name",
            registration.name, old.host, old.pid, max(0, registered.now_us - old.renewed_us) / 1e6,
        )  # fmt: skip
