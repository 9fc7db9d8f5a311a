"""The health server: two pages, GET and HEAD, on 127.0.0.1, answering whatever is sent to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from jobmaster.errors import ConfigurationError, StoreUnavailable
from jobmaster.observe import health
from jobmaster.observe.health import Health, HealthServer


async def well() -> Health:
    return Health(ok=True, facts={"buckets": 5})


@asynccontextmanager
async def serving(server: HealthServer) -> AsyncIterator[int]:
    port = await server.start(0)
    try:
        yield port
    finally:
        await server.close()


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def parts(answer: bytes) -> tuple[int, dict[str, object]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else {}


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /healthz HTTP/1.1", 200),
        ("GET /healthz?verbose=1 HTTP/1.0", 200),
        ("GET /readyz HTTP/1.1", 200),
        ("HEAD /readyz HTTP/1.1", 200),
        ("POST /healthz HTTP/1.1", 405),
        ("GET / HTTP/1.1", 404),
        ("GET /healthz/../readyz HTTP/1.1", 404),
    ],
)
def test_pages_and_methods(request_line: str, status: int) -> None:
    async def scenario() -> bytes:
        async with serving(HealthServer(alive=lambda: Health(ok=True), ready=well)) as port:
            return await ask(port, f"{request_line}\r\nHost: x\r\n\r\n".encode())

    answer = asyncio.run(scenario())

    assert parts(answer)[0] == status
    assert (b"\r\n\r\n{" not in answer) is request_line.startswith("HEAD")
    assert b"Cache-Control: no-store" in answer


def test_not_well_is_503_with_the_facts() -> None:
    async def scenario() -> bytes:
        async with serving(HealthServer(alive=lambda: Health(ok=False, facts={"engines": 0}), ready=well)) as port:
            return await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")

    assert parts(asyncio.run(scenario())) == (503, {"ok": False, "engines": 0})


@pytest.mark.parametrize(
    "fault", [ConnectionError("password=hunter2"), ValueError("x"), StoreUnavailable("at hunter2")], ids=repr
)
def test_a_store_that_fails_is_not_ready_and_leaks_nothing(fault: Exception) -> None:
    async def failing() -> Health:
        raise fault

    async def scenario() -> list[bytes]:
        async with serving(HealthServer(alive=lambda: Health(ok=True), ready=failing)) as port:
            return [await ask(port, b"GET /" + page + b" HTTP/1.1\r\n\r\n") for page in (b"readyz", b"healthz")]

    ready, alive = asyncio.run(scenario())

    why = "the store does not answer" if isinstance(fault, StoreUnavailable) else "the store could not be asked"
    assert parts(ready) == (503, {"ok": False, "why": why, "error": type(fault).__name__})
    assert b"hunter2" not in ready
    assert parts(alive)[0] == 200


def test_a_store_that_hangs_is_not_ready_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "READY_WITHIN", 0.05)

    async def hanging() -> Health:
        await asyncio.Event().wait()
        raise AssertionError("it never comes")

    async def scenario() -> tuple[bytes, bytes]:
        async with serving(HealthServer(alive=lambda: Health(ok=True), ready=hanging)) as port:
            ready = asyncio.create_task(ask(port, b"GET /readyz HTTP/1.1\r\n\r\n"))
            return await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n"), await ready

    alive, ready = asyncio.run(scenario())

    assert (parts(alive)[0], parts(ready)[0]) == (200, 503)
    assert "no answer" in str(parts(ready)[1]["why"])


@pytest.mark.parametrize(
    "garbage",
    [b"\r\n\r\n", b"hello\r\n\r\n", b"GET /healthz\r\n\r\n", b"\xff" * 100 + b"\r\n\r\n", b"x" * 10_000],
    ids=["empty", "word", "no-version", "bytes", "endless"],
)
def test_garbage_is_dropped_and_the_server_goes_on(garbage: bytes) -> None:
    async def scenario() -> tuple[bytes, bytes]:
        async with serving(HealthServer(alive=lambda: Health(ok=True), ready=well)) as port:
            try:
                answer = await ask(port, garbage)
            except ConnectionError:
                answer = b""
            return answer, await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")

    answer, after = asyncio.run(scenario())

    assert answer == b""
    assert parts(after)[0] == 200


@pytest.mark.parametrize("port", [-1, 70_000])
def test_a_port_that_cannot_be_is_told(port: int) -> None:
    async def scenario() -> None:
        await HealthServer(alive=lambda: Health(ok=True), ready=well).start(port)

    with pytest.raises(ConfigurationError, match=f"--health-port {port}"):
        asyncio.run(scenario())
