"""Health over HTTP, on 127.0.0.1 only: `/healthz` asks nobody, `/readyz` asks the stores.

An orchestrator restarts what is not alive, and sends no work to what is not ready; a database that is away must never
make the first answer no (a restart repairs no database).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from jobmaster.errors import ConfigurationError, StoreUnavailable

HOST: Final = "127.0.0.1"
LONGEST_REQUEST: Final = 4096
REQUEST_WITHIN: Final = 5.0
READY_WITHIN: Final = 4.0
CLOSE_WITHIN: Final = 1.0

Facts = dict[str, Any]


class Health(msgspec.Struct, frozen=True):
    """An answer: well or not, and facts for people."""

    ok: bool
    facts: Facts = {}


class HealthServer:
    """Answers GET and HEAD of `/healthz` and `/readyz` with 200 or 503 and a JSON object.

    Args:
        alive: whether the process and its engines live; must not wait for anything.
        ready: whether jobs would run now; may ask stores, is abandoned after four seconds.
    """

    def __init__(self, *, alive: Callable[[], Health], ready: Callable[[], Awaitable[Health]]) -> None:
        self._alive = alive
        self._ready = ready
        self._server: asyncio.Server | None = None

    async def start(self, port: int) -> int:
        """Listen on the port (0: any free one) and return it.

        Raises:
            ConfigurationError: the port is taken, or not allowed.
        """
        try:
            self._server = await asyncio.start_server(self._serve, HOST, port, limit=LONGEST_REQUEST)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigurationError(
                f"--health-port {port}: cannot listen on {HOST}:{port} ({reason}). Choose a free port, or leave it out."
            ) from error
        listening: int = self._server.sockets[0].getsockname()[1]
        return listening

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(TimeoutError):  # a client that says nothing must not hold up the end
                async with asyncio.timeout(CLOSE_WITHIN):
                    await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_WITHIN):
                method, path = await _request(reader)
            status, body = await self._answer(method, path)
            writer.write(_response(status, body, with_body=method != "HEAD"))
            await writer.drain()
        except (TimeoutError, ConnectionError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asked has gone, or spoke no HTTP
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, method: str, path: str) -> tuple[str, Facts]:
        if method not in {"GET", "HEAD"}:
            return "405 Method Not Allowed", {"error": "GET or HEAD"}
        match path.partition("?")[0]:
            case "/healthz":
                health = self._alive()
            case "/readyz":
                health = await self._readiness()
            case _:
                return "404 Not Found", {"error": "there are /healthz and /readyz"}
        return ("200 OK" if health.ok else "503 Service Unavailable"), {"ok": health.ok, **health.facts}

    async def _readiness(self) -> Health:
        try:
            async with asyncio.timeout(READY_WITHIN):
                return await self._ready()
        except TimeoutError:
            return Health(ok=False, facts={"why": f"no answer within {READY_WITHIN:g} s"})
        except Exception as error:  # noqa: BLE001 - whatever a store raises, the answer is: not ready
            # Not the error's own text: whoever may ask here need not know where the store is.
            kind = type(error).__name__
            away = isinstance(error, StoreUnavailable)
            why = "the store does not answer" if away else "the store could not be asked"
            return Health(ok=False, facts={"why": why, "error": kind})


async def _request(reader: asyncio.StreamReader) -> tuple[str, str]:
    """Method and path; the headers are read and forgotten.

    Raises:
        ValueError: no HTTP.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    line = head.partition(b"\r\n")[0].decode("latin-1")
    method, path, version = line.split(" ")
    if not version.startswith("HTTP/"):
        raise ValueError(line)
    return method, path


def _response(status: str, body: Facts, *, with_body: bool) -> bytes:
    content = msgspec.json.encode(body, enc_hook=str) + b"\n"
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (content if with_body else b"")
