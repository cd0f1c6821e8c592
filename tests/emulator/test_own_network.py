"""Networks of their own, with the unmodified client. The outside is a namespace that the test makes."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modalflow.emulator import EmulatorConfig, EmulatorConfigError, EmulatorThread
from modalflow.emulator.machines import server_name_gate
from modalflow.emulator.machines.name_relay import asked_name, is_public_enough, refusal, resolv_conf
from modalflow.emulator.machines.networks import Access, NetworkAccessError, networks_of
from tests.emulator.conftest import Eventually, Sandboxes, emulator_where_it_can_be, sandboxes_of

_FIRST = os.getpid() % 63 * 4
HERE, OUTSIDE = f"198.51.100.{_FIRST + 1}", f"198.51.100.{_FIRST + 2}"
"""Of a range for documentation (RFC 5737); a pair of its own for each process that runs these tests."""
TRY = """
import socket, sys
for target in sys.argv[1:]:
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
        print("open")
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.fixture(scope="module")
def own_emulator() -> Iterator[EmulatorThread]:
    """An emulator with networks of their own."""
    with emulator_where_it_can_be(EmulatorConfig(record_calls=True, network="own")) as emulator:
        yield emulator


@pytest.fixture
def own(own_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandboxes]:
    with sandboxes_of(own_emulator, monkeypatch) as found:
        yield found


@pytest.fixture
def listening() -> Iterator[Callable[[str], int]]:
    """Listen on an address of this machine; return the port."""
    with contextlib.ExitStack() as stack:

        def listen(host: str) -> int:
            return int(stack.enter_context(socket.create_server((host, 0))).getsockname()[1])

        yield listen


@pytest.fixture
def outside(own_emulator: EmulatorThread) -> Iterator[int]:
    """Make an outside: a namespace at ``OUTSIDE`` with a server that tells callers their address; return its port."""
    from pyroute2 import IPRoute, netns

    name = f"outside{os.getpid()}"
    here, there = f"vo{os.getpid()}", f"vp{os.getpid()}"
    netns.create(name)
    try:
        with IPRoute() as routes:
            routes.link("add", ifname=here, kind="veth", peer={"ifname": there, "net_ns_fd": name})
            index = routes.link_lookup(ifname=here)[0]
            routes.addr("add", index=index, address=HERE, prefixlen=30)
            routes.link("set", index=index, state="up")
        with IPRoute(netns=name) as routes:
            index = routes.link_lookup(ifname=there)[0]
            routes.addr("add", index=index, address=OUTSIDE, prefixlen=30)
            routes.link("set", index=index, state="up")
        server = netns.create_socket(name, socket.AF_INET, socket.SOCK_STREAM)
        server.bind((OUTSIDE, 0))
        server.listen()
        thread = threading.Thread(target=_serve, args=(server,))
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()
    finally:
        with IPRoute() as routes:
            for index in routes.link_lookup(ifname=here):
                routes.link("del", index=index)
        netns.remove(name)


def _serve(server: socket.socket) -> None:
    while True:
        try:
            connection, peer = server.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            connection.sendall(peer[0].encode())


def tried(own: Sandboxes, *targets: str, **options: object) -> list[str]:
    return own.output(sys.executable, "-c", TRY, *targets, **options).split()


def test_this_machine_is_out_of_reach(own: Sandboxes, own_emulator: EmulatorThread, listening: Callable[[str], int]) -> None:
    everywhere = listening("0.0.0.0")
    port = own_emulator.port
    gateway = own_emulator._emulator.core.networks.host
    targets = [f"127.0.0.1:{listening('127.0.0.1')}", f"localhost:{port}", f"{gateway}:{everywhere}", f"{gateway}:{port}"]
    targets += [f"{address}:{everywhere}" for address in _addresses()]
    assert set(tried(own, *targets)) == {"ConnectionRefusedError"}
    assert own_emulator.network.name == "own"
    assert "no port of this machine" in own_emulator.network.words


def _addresses() -> list[str]:
    from pyroute2 import IPRoute

    with IPRoute() as routes:
        found = [str(one.get_attr("IFA_ADDRESS")) for one in routes.get_addr(family=socket.AF_INET)]
    return [one for one in found if not one.startswith(("127.", "198.18.", "198.19."))]


def test_the_outside_is_reached_by_this_machines_address(own: Sandboxes, outside: int) -> None:
    program = f"import socket; print(socket.create_connection(('{OUTSIDE}', {outside}), 5).recv(100).decode())"
    assert own.output(sys.executable, "-c", program) == f"{HERE}\n"


def test_block_network_blocks_all_but_what_comes_in(
    own: Sandboxes, own_emulator: EmulatorThread, outside: int, eventually: Eventually
) -> None:
    assert tried(own, f"{OUTSIDE}:{outside}", block_network=True) == ["ConnectionRefusedError"]
    sandbox = own.create(sys.executable, "-m", "http.server", "8080", block_network=True)
    token = sandbox.create_connect_token()
    context = ssl.create_default_context(cafile=own_emulator.environment()["SSL_CERT_FILE"])

    def served() -> bool:
        try:
            urllib.request.urlopen(f"{token.url}/?_modal_connect_token={token.token}", context=context).close()
        except OSError:
            return False
        return True

    eventually(served)
    sandbox.terminate()


def test_outbound_cidrs_hold_and_can_be_changed(own: Sandboxes, outside: int) -> None:
    assert tried(own, f"{OUTSIDE}:{outside}", outbound_cidr_allowlist=["198.51.100.0/24"]) == ["open"]
    sandbox = own.create("sleep", "60", outbound_cidr_allowlist=["203.0.113.0/24"])

    def now() -> str:
        process = sandbox.exec(sys.executable, "-c", TRY, f"{OUTSIDE}:{outside}")
        process.wait()
        return process.stdout.read().strip()

    assert now() == "ConnectionRefusedError"
    sandbox._experimental_set_outbound_network_policy(outbound_cidr_allowlist=[f"{OUTSIDE}/32"])
    assert now() == "open"
    sandbox._experimental_set_outbound_network_policy(outbound_cidr_allowlist=[])
    assert now() == "ConnectionRefusedError"
    sandbox._experimental_set_outbound_network_policy()
    assert now() == "open"
    sandbox.terminate()


def test_two_sandboxes_have_the_same_port_and_meet_by_tunnels_only(own: Sandboxes, eventually: Eventually) -> None:
    """Each listens on 8000 on its own localhost; a third reaches them by their tunnels, with TLS, but not by their address."""
    program = textwrap.dedent("""
        import http.server, socket, sys
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200); self.end_headers(); self.wfile.write(sys.argv[1].encode())
        http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
    """)
    servers = [own.create(sys.executable, "-c", program, name, encrypted_ports=[8000]) for name in ("one", "two")]
    urls = [server.tunnels()[8000].url for server in servers]
    fetch = textwrap.dedent("""
        import http.client, sys, time, urllib.request
        for url in sys.argv[1:]:
            while True:
                try:
                    print(urllib.request.urlopen(url).read().decode())
                    break
                except (ConnectionError, http.client.HTTPException):
                    time.sleep(0.01)
    """)
    assert own.output(sys.executable, "-c", fetch, *urls).split() == ["one", "two"]
    address = servers[0].exec("hostname", "-I")
    address.wait()
    found = address.stdout.read().strip() or "198.18.0.2"
    assert tried(own, f"{found}:8000") != ["open"]
    for server in servers:
        server.terminate()


def test_domains_are_looked_at_in_tls(own: Sandboxes, outside: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is meant for any address goes to the server that TLS names: here one outside, which tells who connects."""
    resolve = socket.getaddrinfo

    def resolved(host: str, *rest: object, **options: object) -> object:
        return resolve(OUTSIDE if str(host).endswith((".example.com", ".example.org")) else host, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setattr(server_name_gate, "PORT", outside)
    program = textwrap.dedent("""
        import socket, ssl, sys
        for name in sys.argv[1:]:
            out = ssl.MemoryBIO()
            try:
                ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
            except ssl.SSLWantReadError:
                pass
            with socket.create_connection(("203.0.113.7", 443), 5) as connection:
                try:
                    connection.sendall(out.read())
                    print(connection.recv(100).decode() or "closed")
                except ConnectionError:
                    print("closed")
    """)
    names = ["allowed.example.com", "other.example.org"]
    said = own.output(sys.executable, "-c", program, *names, outbound_domain_allowlist=["*.example.com"])
    assert said.split() == [HERE, "closed"]
    assert tried(own, "203.0.113.7:80", outbound_domain_allowlist=["*.example.com"]) == ["ConnectionRefusedError"]


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with emulator_where_it_can_be(EmulatorConfig(network="own")) as emulator:
        emulator_id = emulator._emulator.core.networks._chosen._links.emulator_id  # type: ignore[attr-defined]
        assert any(emulator_id in one for one in _everything())
    assert not [one for one in _everything() if emulator_id in one]


def test_an_emulator_that_is_killed_leaves_nothing(own_emulator: EmulatorThread, eventually: Eventually, tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import time
        from modalflow.emulator import EmulatorConfig, EmulatorThread
        emulator = EmulatorThread(EmulatorConfig(network="own"))
        emulator.start()
        print(emulator._emulator.core.networks._chosen._links.emulator_id, flush=True)
        time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        emulator_id = process.stdout.readline().strip()
        assert any(emulator_id in one for one in _everything())
        process.send_signal(signal.SIGKILL)
    eventually(lambda: not [one for one in _everything() if emulator_id in one])


def _everything() -> list[str]:
    """Return the names of all links, addresses' labels, namespaces and firewall tables of this machine."""
    from pyroute2 import IPRoute, netns
    from pyroute2.nftables.main import NFTables

    with IPRoute() as routes:
        found = [str(one.get_attr("IFLA_IFNAME")) for one in routes.get_links()]
        found += [str(one.get_attr("IFA_LABEL")) for one in routes.get_addr()]
    firewall = NFTables(nfgen_family=1)
    found += [str(one.get_attr("NFTA_TABLE_NAME")) for one in firewall.get_tables()]
    firewall.close()
    return [*found, *netns.listnetns()]


# -- parts


def test_a_number_is_used_again_while_something_keeps_its_last_namespace(own_emulator: EmulatorThread) -> None:
    from modalflow.emulator.machines.network_links import Links
    from modalflow.emulator.machines.network_requests import Requests

    def use_one_twice() -> None:
        links = Links(ipaddress.IPv4Network("198.19.255.248/29"))
        try:
            links.start()
            links.make(0)
            with links.socket(0, socket.AF_INET):
                links.remove(0)
                links.make(0)
                assert links.namespace(0).name in _everything()
            with (
                pytest.raises(OSError, match="No such device"),
                contextlib.closing(Requests()) as requests,
                requests.sent_here() as routes,
            ):
                routes.addr("add", index=2**31 - 1, address="198.19.255.250", prefixlen=32)
        finally:
            links.stop()
        assert not [one for one in _everything() if links.emulator_id in one]

    # A thread of its own, as it goes from namespace to namespace.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(use_one_twice).result()


def test_domain_rules() -> None:
    access = Access(cidrs=(), domains=("example.com", "*.example.org"))
    names = ("Example.com.", "a.example.com", "example.org", "a.b.example.org", "xexample.org")
    assert [access.allows_domain(one) for one in names] == [True, False, True, True, False]
    assert Access(cidrs=(), domains=("*",)).allows_domain("anything")
    with pytest.raises(NetworkAccessError, match=r"203\.0\.113\.0/24"):
        networks_of(["nonsense"])


def test_names_are_read_from_questions() -> None:
    question = bytes.fromhex("12340100000100000000000003777777076578616d706c6503636f6d0000010001")
    assert asked_name(question) == "www.example.com"
    assert asked_name(question[:20]) is None
    assert refusal(question)[:4] == bytes.fromhex("12348105")[:2] + bytes([0x81, 5])


def test_resolv_conf_keeps_what_is_not_a_server() -> None:
    text = "# made by\nnameserver 127.0.0.53\noptions edns0\nsearch lan\n"
    assert resolv_conf(text, "198.18.0.1") == "nameserver 198.18.0.1\noptions edns0\nsearch lan\n"


def test_the_gate_does_not_connect_to_this_machine() -> None:
    addresses = ("127.0.0.1", "169.254.169.254", "192.0.2.2", "::1", "192.0.2.3")
    assert [is_public_enough(one, {"192.0.2.2"}) for one in addresses] == [False, False, False, False, True]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"network": "bridge"}, "expected auto, own or host"),
        ({"network": "own", "isolation": "process"}, "own needs containers"),
        ({"network_range": "8.8.0.0/16"}, "expected private addresses"),
        ({"network_range": "10.0.0.0/31"}, "expected private addresses"),
        ({"network_range": "10.0"}, "write one such as"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, str], text: str) -> None:
    with pytest.raises(EmulatorConfigError, match=text):
        EmulatorConfig(**settings)  # type: ignore[arg-type]
