"""What the fault proxy does to any protocol: slow, narrow, cut, one-way and half-open lines; and its plug-ins."""

from __future__ import annotations

import io
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.servers.fault_proxy import AFTER, BEFORE, End, FaultProxy, Piece
from tests.servers.fault_proxy.__main__ import main, obey
from tests.servers.fault_proxy.link import TO_SERVER


class Echo(socketserver.StreamRequestHandler):
    """Says every line again, and keeps it."""

    def handle(self) -> None:
        try:
            for line in self.rfile:
                self.server.heard.append(line)
                self.wfile.write(line)
        except OSError:
            pass
        self.server.ended.set()


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Echo)
        self.heard: list[bytes] = []
        self.ended = threading.Event()
        self.address = f"nats://127.0.0.1:{self.server_address[1]}"


class LineConversation:
    """A protocol in which a line is a transaction, and the server's line says that it is done."""

    def client_says(self, data: bytes) -> Iterator[Piece]:
        for line in data.splitlines(keepends=True):
            if line == b"may we talk in secret?\n":
                yield Piece(b"", answer=b"no\n")
                continue
            yield Piece(line, end=End((line.decode(),)), waits=line.startswith(b"begin"))

    def server_says(self, data: bytes) -> Iterator[Piece]:
        yield Piece(data, end=End((data.decode(),)))


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with EchoServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: EchoServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.address, conversation=LineConversation) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    with connected(proxy) as client:
        yield client


def connected(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=20)


def asked(client: socket.socket, line: bytes) -> bytes:
    client.sendall(line)
    return client.recv(65536)


def test_any_protocol_passes(server: EchoServer) -> None:
    with FaultProxy(server.address) as proxy, connected(proxy) as client:
        proxy.cut_when(AFTER, lambda end: True)
        assert asked(client, b"hello\n") == b"hello\n"


def test_latency_is_of_the_packet_and_not_of_the_line(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.latency, proxy.jitter = 0.2, 0.02
    begun = time.monotonic()
    for number in range(30):
        client.sendall(b"%d\n" % number)
        time.sleep(0.01)  # packets of their own
    heard = b""
    while heard.count(b"\n") < 30:
        heard += client.recv(65536)
    assert heard == b"".join(b"%d\n" % number for number in range(30)), "none overtakes another"
    assert 0.4 <= time.monotonic() - begun < 10, "one after the other they would take twelve seconds"


def test_a_narrow_line_takes_its_time(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.bandwidth = 100_000
    begun = time.monotonic()
    client.sendall(b"x" * 9_999 + b"\n")
    heard = b""
    while not heard.endswith(b"\n"):
        heard += client.recv(65536)
    assert time.monotonic() - begun >= 0.2


def test_a_line_that_is_cut_by_chance_is_counted(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.reset_chance = 1.0
    with pytest.raises(ConnectionResetError):
        asked(client, b"hello\n")
    assert proxy.resets == 1


def test_an_answer_ends_in_the_middle(proxy: FaultProxy, client: socket.socket, server: EchoServer) -> None:
    proxy.cut_after(3)
    assert asked(client, b"hello\n") == b"hel"
    assert client.recv(1) == b""
    assert server.heard == [b"hello\n"]
    with connected(proxy) as again:
        proxy.cut_after(8, direction=TO_SERVER)
        assert asked(again, b"hello\n") == b"hello\n"
        assert asked(again, b"world\n") == b"", "the server heard 'wo' and no end of the line"


def test_requests_arrive_while_answers_do_not(proxy: FaultProxy, client: socket.socket, server: EchoServer) -> None:
    proxy.stall(to_server=False)
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        asked(client, b"hello\n")
    deadline = time.monotonic() + 20
    while not server.heard:
        assert time.monotonic() < deadline, "the request never arrived"
        time.sleep(0.01)
    assert server.heard == [b"hello\n"]
    with pytest.raises(TimeoutError):
        client.recv(100)
    proxy.resume()
    client.settimeout(20)
    assert client.recv(100) == b"hello\n"


def test_of_a_half_open_connection_the_server_does_not_hear_the_end(
    proxy: FaultProxy, client: socket.socket, server: EchoServer
) -> None:
    assert asked(client, b"hello\n") == b"hello\n"
    proxy.stall()
    client.close()
    assert not server.ended.wait(0.2)
    proxy.resume()
    assert server.ended.wait(20)


def test_new_connections_are_taken_and_get_no_answer(proxy: FaultProxy) -> None:
    proxy.stall()
    with connected(proxy) as client:
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            asked(client, b"hello\n")


def test_a_plug_in_says_where_to_cut(proxy: FaultProxy, client: socket.socket, server: EchoServer) -> None:
    proxy.cut_when(BEFORE, lambda end: end.has("^commit"))
    client.sendall(b"begin\ncommit\n")
    with pytest.raises(ConnectionResetError):
        client.recv(100)
    assert server.heard == [], "what belongs to it was lost with it"
    proxy.cut_when(BEFORE, None)
    proxy.cut_next(AFTER, matching="^commit")
    with connected(proxy) as again:
        assert asked(again, b"begin\n") == b"begin\n"
        with pytest.raises(ConnectionResetError):
            asked(again, b"commit\n")
    assert server.heard == [b"begin\n", b"commit\n"]
    assert proxy.cuts_by(lambda end: end.statements[0].strip()) == {"commit": 2}


def test_a_plug_in_may_answer_by_itself(proxy: FaultProxy, client: socket.socket, server: EchoServer) -> None:
    assert asked(client, b"may we talk in secret?\n") == b"no\n"
    assert asked(client, b"hello\n") == b"hello\n"
    assert server.heard == [b"hello\n"]


def test_an_error_in_a_plug_in_is_told(server: EchoServer) -> None:
    class Broken(LineConversation):
        def server_says(self, data: bytes) -> Iterator[Piece]:
            raise KeyError(data)

    def talk() -> None:
        with (
            FaultProxy(server.address, conversation=Broken) as proxy,
            connected(proxy) as client,
            pytest.raises(ConnectionResetError),
        ):
            asked(client, b"hello\n")

    with pytest.raises(KeyError, match="hello"):
        talk()


def test_a_shell_can_use_it(
    server: EchoServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("stall\nresume\ncut\nnonsense\nquit\n"))
    assert main(["--target", server.address, "--latency", "0.1", "--cut", "after", "--chance", "0.5"]) == 0
    address, stalled, resumed, cut, help_, last = capsys.readouterr().out.splitlines()
    assert address.startswith("nats://127.0.0.1:")
    assert (stalled, resumed, cut) == ("0 connections", "0 connections", "0 connections cut")
    assert "refuse" in help_
    assert last == "0 transactions cut, 0 connections reset by chance"


def test_a_line_of_the_shell_does_what_it_says(proxy: FaultProxy, client: socket.socket) -> None:
    assert asked(client, b"hello\n") == b"hello\n"
    for line in ("stall to_client", "resume", "latency 0.01", "resets 0", "refuse", "accept"):
        assert obey(proxy, line) == "1 connections"
    assert proxy.latency == 0.01
    assert obey(proxy, "cut") == "1 connections cut"
    with pytest.raises(ConnectionResetError):
        client.recv(1)
