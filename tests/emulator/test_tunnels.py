"""Tunnels, connect tokens and their certificates, with the unmodified client; servers inside are Python's own."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import socket
import ssl
import sys
import textwrap
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import aiohttp
import certifi
import modal
import pytest

from modalflow.emulator import EmulatorThread
from tests.emulator.conftest import Eventually, Sandboxes, connect

pytestmark = pytest.mark.network("auto")

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = (self.path + "\\n" + str(self.headers)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[::-1])
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
ECHO = """
import hashlib, socket, sys
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listening.accept()
    digest, size = hashlib.sha256(), 0
    while data := connection.recv(65536):
        digest.update(data); size += len(data)
    connection.sendall(f"{size} {digest.hexdigest()}".encode())
    connection.close()
"""
DRIP = """
import socket, sys
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listening.accept()
    connection.sendall(b"hello ")
    connection.sendall(connection.recv(100).upper())
    connection.close()
"""


@pytest.fixture
def port() -> int:
    """Return a port that is free now: without a network of its own a sandbox shares this machine's."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


Serve = Callable[..., modal.Sandbox]


@pytest.fixture
def serve(sandboxes: Sandboxes, port: int) -> Iterator[Serve]:
    """Start a server in a sandbox; return the sandbox."""
    with ExitStack() as stack:

        def start(program: str, **options: object) -> modal.Sandbox:
            sandbox = sandboxes.create(sys.executable, "-c", textwrap.dedent(program), str(port), **options)
            stack.callback(sandbox.terminate)
            return sandbox

        yield start


def trusting(emulator: EmulatorThread) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=emulator.environment()["SSL_CERT_FILE"])


def fetched(eventually: Eventually, url: str, context: ssl.SSLContext, headers: dict[str, str] | None = None) -> str:
    """Get a page as soon as its server listens."""
    pages: list[str] = []

    def got() -> bool:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), context=context) as answer:
                pages.append(answer.read().decode())
        except (http.client.HTTPException, urllib.error.HTTPError, OSError) as error:
            if isinstance(error, urllib.error.URLError) and isinstance(error.reason, ssl.SSLCertVerificationError):
                raise
            return False
        return True

    eventually(got)
    return pages[0]


def test_encrypted_tunnel_is_verified_by_the_local_authority(
    emulator: EmulatorThread, serve: Serve, port: int, eventually: Eventually
) -> None:
    sandbox = serve(SERVER, encrypted_ports=[port])
    tunnel = sandbox.tunnels()[port]
    assert not emulator.calls("SandboxGetTunnelsV2"), "the answer of create holds it"
    assert tunnel.url == f"https://{tunnel.host}:{tunnel.port}"
    assert fetched(eventually, f"{tunnel.url}/page?x=1", trusting(emulator)).startswith("/page?x=1\n")
    with pytest.raises(ssl.SSLCertVerificationError), closing(socket.create_connection(tunnel.tls_socket)) as plain:
        ssl.create_default_context(cafile=certifi.where()).wrap_socket(plain, server_hostname=tunnel.host)
    with pytest.raises(modal.exception.InvalidError):
        _ = tunnel.tcp_socket


def test_clients_are_given_the_authority_besides_their_own(emulator: EmulatorThread) -> None:
    environment = emulator.environment()
    both = Path(environment["SSL_CERT_FILE"]).read_bytes()
    assert Path(environment["NODE_EXTRA_CA_CERTS"]).read_bytes() in both
    assert both.count(b"BEGIN CERTIFICATE") > 100, "the authorities of this machine stay trusted"
    assert environment["REQUESTS_CA_BUNDLE"] == environment["SSL_CERT_FILE"]


def test_another_sandbox_trusts_the_tunnel(serve: Serve, sandboxes: Sandboxes, port: int) -> None:
    tunnel = serve(SERVER, encrypted_ports=[port]).tunnels()[port]
    program = f"""
        import time, urllib.request
        while True:
            try:
                print(urllib.request.urlopen("{tunnel.url}/from-inside").read().decode().splitlines()[0])
                break
            except ConnectionResetError: time.sleep(0.01)
            except __import__("http.client").client.RemoteDisconnected: time.sleep(0.01)
    """
    assert sandboxes.output(sys.executable, "-c", textwrap.dedent(program)) == "/from-inside\n"


def test_h2_is_agreed_on_only_where_it_is_asked_for(emulator: EmulatorThread, sandboxes: Sandboxes, port: int) -> None:
    sandbox = sandboxes.create("sleep", "60", h2_ports=[port], encrypted_ports=[port + 1 if port < 65535 else port - 1])
    agreed = {}
    for number, tunnel in sandbox.tunnels().items():
        context = trusting(emulator)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with socket.create_connection(tunnel.tls_socket) as plain, context.wrap_socket(plain, server_hostname=tunnel.host) as tls:
            agreed[number == port] = tls.selected_alpn_protocol()
    sandbox.terminate()
    assert agreed == {True: "h2", False: "http/1.1"}


def test_plain_tunnel_carries_much_and_half_closes(
    emulator: EmulatorThread, serve: Serve, port: int, eventually: Eventually
) -> None:
    sandbox = serve(ECHO, unencrypted_ports=[port])
    address = sandbox.tunnels()[port].tcp_socket
    assert emulator.calls("SandboxGetTunnelsV2"), "plain tunnels are not in the answer of create"
    block = bytes(range(256)) * 4096
    expected = hashlib.sha256(block * 100).hexdigest()
    answers: list[bytes] = []

    def sent() -> bool:
        try:
            with socket.create_connection(address) as connection:
                for _ in range(100):
                    connection.sendall(block)
                connection.shutdown(socket.SHUT_WR)
                answers.append(connection.recv(1000))
        except ConnectionError:
            return False
        return answers.pop() != b"" if answers == [b""] else True

    eventually(sent)
    assert answers == [f"{len(block) * 100} {expected}".encode()]


def test_many_connections_at_once_and_none_is_left(
    emulator: EmulatorThread, serve: Serve, port: int, eventually: Eventually
) -> None:
    sandbox = serve(SERVER, encrypted_ports=[port])
    tunnel, context = sandbox.tunnels()[port], trusting(emulator)
    fetched(eventually, tunnel.url, context)
    opened = []
    for _ in range(50):
        opened.append(http.client.HTTPSConnection(tunnel.host, tunnel.port, context=context))
        opened[-1].request("GET", "/")
    assert {connection.getresponse().status for connection in opened} == {200}
    for connection in opened:
        connection.close()
    ingress = emulator._emulator.core.ingress
    (task_id,) = emulator.workspace.tasks
    eventually(lambda: ingress.connections(task_id) == 0)


def test_server_speaks_first_and_the_client_hears_all(serve: Serve, port: int, eventually: Eventually) -> None:
    address = serve(DRIP, unencrypted_ports=[port]).tunnels()[port].tcp_socket
    heard: list[bytes] = []

    def talked() -> bool:
        with socket.create_connection(address) as connection:
            first = connection.recv(6)
            if not first:
                return False
            connection.sendall(b"there")
            heard.append(first + connection.recv(100))
        return True

    eventually(talked)
    assert heard == [b"hello THERE"]


def test_nobody_listens_yet_then_the_sandbox_ends(emulator: EmulatorThread, sandboxes: Sandboxes, port: int) -> None:
    sandbox = sandboxes.create("sleep", "60", unencrypted_ports=[port])
    address = sandbox.tunnels()[port].tcp_socket
    with socket.create_connection(address) as connection:
        assert connection.recv(1) == b"", "closed, as nothing listens inside"
    sandbox.terminate(wait=True)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    with pytest.raises(modal.exception.ConflictError, match="already terminated"):
        modal.Sandbox.from_id(sandbox.object_id, client=sandboxes.client).tunnels()
    assert emulator.workspace.sandboxes


def test_connections_end_with_the_sandbox(serve: Serve, port: int, eventually: Eventually) -> None:
    sandbox = serve(
        """
        import socket, sys
        listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
        kept = []
        while True:
            kept.append(listening.accept()[0]); kept[-1].sendall(b"x")
    """,
        unencrypted_ports=[port],
    )
    address = sandbox.tunnels()[port].tcp_socket
    live: list[socket.socket] = []

    def connected() -> bool:
        live.append(socket.create_connection(address))
        return live[-1].recv(1) == b"x"

    eventually(connected)
    sandbox.terminate(wait=True)
    with suppress(ConnectionResetError):
        assert live[-1].recv(1) == b""
    for connection in live:
        connection.close()


def test_inbound_allow_list_keeps_this_machine_out(
    emulator: EmulatorThread, sandboxes: Sandboxes, serve: Serve, port: int, eventually: Eventually
) -> None:
    closed = sandboxes.create("sleep", "60", encrypted_ports=[port], inbound_cidr_allowlist=["203.0.113.0/24"])
    tunnel = closed.tunnels()[port]
    with (
        socket.create_connection(tunnel.tls_socket) as plain,
        trusting(emulator).wrap_socket(plain, server_hostname=tunnel.host) as tls,
    ):
        assert tls.recv(1) == b""
    token = closed.create_connect_token(port=port)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{token.url}/?_modal_connect_token={token.token}", context=trusting(emulator))
    closed.terminate()
    opened = serve(SERVER, encrypted_ports=[port], inbound_cidr_allowlist=["127.0.0.0/8", "10.0.0.0/8", "198.18.0.0/15"])
    assert fetched(eventually, opened.tunnels()[port].url, trusting(emulator))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"inbound_cidr_allowlist": ["10.0.0.0/33"]}, "Invalid CIDR"),
        ({"encrypted_ports": [0]}, "Invalid port"),
        ({"encrypted_ports": [8000], "unencrypted_ports": [8000]}, "must differ"),
    ],
)
def test_what_cannot_be_is_refused(sandboxes: Sandboxes, options: dict[str, object], text: str) -> None:
    with pytest.raises(modal.exception.InvalidError, match=text):
        sandboxes.create("true", **options)


def test_an_open_connection_is_use(start_emulator: Callable[..., EmulatorThread], port: int, eventually: Eventually) -> None:
    emulator = start_emulator(gpus={}, frozen_clock=True)
    client = connect(emulator)
    own = Sandboxes(modal.App.lookup("tests", create_if_missing=True, client=client), client)
    sandbox = own.create(sys.executable, "-c", DRIP, str(port), unencrypted_ports=[port], idle_timeout=100, timeout=10_000)
    address = sandbox.tunnels()[port].tcp_socket
    live: list[socket.socket] = []

    def connected() -> bool:
        live.append(socket.create_connection(address))
        return live[-1].recv(6) == b"hello "

    eventually(connected)
    emulator.clock.advance(1_000)
    assert sandbox.poll() is None
    for connection in live:
        connection.close()

    def ended() -> bool:
        emulator.clock.advance(101)
        return sandbox.poll() is not None

    eventually(ended)
    client.close()


# -- connect tokens


def test_connect_token_authenticates_and_tells_who_it_is(
    emulator: EmulatorThread, serve: Serve, port: int, eventually: Eventually
) -> None:
    sandbox = serve(SERVER)
    token = sandbox.create_connect_token(user_metadata={"user_id": "foo"}, port=port)
    context = trusting(emulator)
    page = fetched(
        eventually,
        f"{token.url}/a?b=c%20d",
        context,
        {"Authorization": f"Bearer {token.token}", "X-Verified-User-Data": "forged", "X-Own": "kept"},
    )
    assert page.startswith("/a?b=c%20d\n")
    assert 'X-Verified-User-Data: {"user_id": "foo"}' in page
    assert "X-Own: kept" in page
    assert "forged" not in page
    assert token.token not in page
    by_query = urllib.request.Request(
        f"{token.url}/?_modal_connect_token={token.token}", headers={"Authorization": "Bearer of-the-application"}
    )
    with urllib.request.urlopen(by_query, context=context) as answer:
        assert "Authorization: Bearer of-the-application" in answer.read().decode()
        cookie = answer.headers["Set-Cookie"].split(";")[0]
    assert "foo" in fetched(eventually, f"{token.url}/next", context, {"Cookie": f"{cookie}; other=1"})
    post = urllib.request.Request(token.url, data=b"abc" * 100_000, headers={"Authorization": f"Bearer {token.token}"})
    with urllib.request.urlopen(post, context=context) as answer:
        assert (answer.status, answer.read()) == (201, b"cba" * 100_000)


def test_connect_tokens_are_refused_when_bad_or_late(emulator: EmulatorThread, sandboxes: Sandboxes, port: int) -> None:
    sandbox = sandboxes.create("sleep", "60")
    token, context = sandbox.create_connect_token(port=port), trusting(emulator)

    def status(text: str) -> int:
        query = urllib.parse.urlencode({"_modal_connect_token": text}) if text else ""
        try:
            with urllib.request.urlopen(f"{token.url}/?{query}", context=context) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert status(token.token) == 502, "nothing listens"
    assert status("") == 401
    assert status("ä.b") == 401
    body, _, signature = token.token.partition(".")
    assert status(f"{body[:-2]}AA.{signature}") == 401
    router = emulator._emulator.core.authority.mint("x", seconds=60)
    assert status(router) == 401
    sandbox.terminate(wait=True)
    assert status(token.token) == 401
    with pytest.raises(modal.exception.ConflictError):
        modal.Sandbox.from_id(sandbox.object_id, client=sandboxes.client).create_connect_token()


def test_connect_token_is_no_command_router_token(emulator: EmulatorThread, sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("sleep", "60")
    token = sandbox.create_connect_token().token
    with pytest.raises(Exception, match="Invalid command router token"):
        emulator._emulator.core.authority.task_of(token)


def test_metadata_must_fit_a_header(sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("sleep", "60")
    with pytest.raises(modal.exception.InvalidError, match="less than 512"):
        sandbox.create_connect_token(user_metadata="x" * 512)
    with pytest.raises(modal.exception.InvalidError, match="printable"):
        sandbox.create_connect_token(user_metadata="a\r\nX-Admin: yes")


WEBSOCKET = """
import sys
from aiohttp import web
async def echo(request):
    socket = web.WebSocketResponse(protocols=("chat",))
    await socket.prepare(request)
    await socket.send_str(request.headers.get("X-Verified-User-Data", ""))
    async for message in socket:
        if message.data == "end": await socket.close(code=4001)
        elif isinstance(message.data, bytes): await socket.send_bytes(message.data[::-1])
        else: await socket.send_str(message.data.upper())
    return socket
app = web.Application()
app.router.add_get("/echo", echo)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
"""


@pytest.mark.parametrize("way", ["token", "tunnel"])
def test_websockets_pass(way: str, emulator: EmulatorThread, serve: Serve, port: int, eventually: Eventually) -> None:
    sandbox = serve(WEBSOCKET, encrypted_ports=[port])
    context = trusting(emulator)
    token = sandbox.create_connect_token(user_metadata="me", port=port)
    tunnel = sandbox.tunnels()[port]
    fetched_any(eventually, tunnel.host, tunnel.port, context)
    url, headers = (tunnel.url, {}) if way == "tunnel" else (token.url, {"Authorization": f"Bearer {token.token}"})
    asyncio.run(_talk(url, headers, context, "" if way == "tunnel" else "me"))


async def _talk(url: str, headers: dict[str, str], context: ssl.SSLContext, greeting: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/echo", headers=headers, protocols=("chat",), ssl=context) as ws,
    ):
        transport = ws.get_extra_info("socket")
        assert ws.protocol == "chat"
        assert await ws.receive_str() == greeting
        await ws.send_str("hello")
        assert await ws.receive_str() == "HELLO"
        await ws.send_bytes(bytes(range(256)) * 8192)
        assert (await ws.receive_bytes()) == (bytes(range(256)) * 8192)[::-1]
        await ws.send_str("end")
        await ws.receive()
        assert ws.close_code == 4001
    while transport.fileno() != -1:  # noqa: ASYNC110 -- aiohttp does not wait for the end of TLS, and tells nobody
        await asyncio.sleep(0)


def fetched_any(eventually: Eventually, host: str, port: int, context: ssl.SSLContext) -> None:
    """Return when some HTTP server answers there."""

    def answered() -> bool:
        connection = http.client.HTTPSConnection(host, port, context=context)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status > 0
        except (http.client.HTTPException, OSError):
            return False
        finally:
            connection.close()

    eventually(answered)


# -- rules that are not enforced here


def test_rules_without_a_network_of_ones_own_are_told(
    start_emulator: Callable[..., EmulatorThread], capsys: pytest.CaptureFixture[str]
) -> None:
    emulator = start_emulator(gpus={}, network="host")
    client = connect(emulator)
    sandboxes = Sandboxes(modal.App.lookup("tests", create_if_missing=True, client=client), client)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sandboxes.create("true", block_network=True)
    said = " ".join(str(one.message) for one in caught) + capsys.readouterr().err
    client.close()
    assert "network rules (block_network) are recorded but not enforced" in said
