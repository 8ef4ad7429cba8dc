"""The configurations of ``examples/deploy``, in real proxies, where these are installed."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

import kps
import kps.sync
from tests.event_source import Event, EventReader
from tests.io.harness import DRIVERS, PATIENCE, AnyDriver, Inbox, eventually
from tests.ports import kept_address

DEPLOY = Path(__file__).parents[2] / "examples" / "deploy"
READ_TIMEOUT = 3.0  # seconds, in place of the minute of our nginx.conf
PROGRAMS = {
    name: shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    for name in ("nginx", "caddy")
}

MAIN = """
daemon off;
pid {folder}/pid;
worker_processes 1;
worker_shutdown_timeout 1s;
events {{ worker_connections 64; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    {ours}
}}
"""
CADDY_MAIN = """
{{
	admin off
	auto_https off
}}
{ours}
"""


def replace(text: str, *pairs: tuple[str, str]) -> str:
    """Fill in what is different in a test, all of which must be there."""
    for old, new in pairs:
        assert old in text, f"{old!r} is not in our configuration"
        text = text.replace(old, new)
    return text


class Proxy:
    """A proxy with our configuration, in front of a server."""

    def __init__(self, upstream: str, folder: Path, authority: trustme.CA) -> None:
        folder.mkdir()
        self.folder = folder
        self.log = folder / "log"
        self.address = kept_address()
        self.url = f"wss://{self.address}/ws/bus"
        issued = authority.issue_cert("127.0.0.1")
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.command = self.configure(upstream)

    def configure(self, upstream: str) -> list[str]:
        """Write the configuration, and return the command."""
        raise NotImplementedError

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"HOME": str(self.folder)},
                start_new_session=True,
            )
        eventually(self.is_up, "the proxy's port")

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        host, _, port = self.address.rpartition(":")
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection((host, int(port))).close()
            return True
        return False

    def stop(self) -> None:
        """End it with all its connections, and with its workers, who would outlive it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


class Nginx(Proxy):
    def configure(self, upstream: str) -> list[str]:
        ours = replace(
            (DEPLOY / "nginx.conf").read_text(),
            ("listen 443 ssl;", f"listen {self.address} ssl;"),
            ("listen [::]:443 ssl;", ""),
            ("server_name bus.example;", "server_name _;"),
            ("/etc/letsencrypt/live/bus.example/fullchain.pem", str(self.cert)),
            ("/etc/letsencrypt/live/bus.example/privkey.pem", str(self.key)),
            ("/var/log/nginx/kps.log", str(self.folder / "access.log")),
            ("http://127.0.0.1:9313", f"http://{upstream}"),
            ("proxy_read_timeout 60s", f"proxy_read_timeout {READ_TIMEOUT:.0f}s"),
        )
        path = self.folder / "nginx.conf"
        path.write_text(
            ("user root;\n" if os.geteuid() == 0 else "")  # the folder is ours alone
            + MAIN.format(folder=self.folder, ours=ours)
        )
        program = PROGRAMS["nginx"]
        assert program is not None
        return [program, "-p", str(self.folder), "-c", str(path), "-e", "stderr"]

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)


class Caddy(Proxy):
    def configure(self, upstream: str) -> list[str]:
        ours = replace(
            (DEPLOY / "Caddyfile").read_text(),
            ("bus.example {", f"https://{self.address} {{\n\ttls {self.cert} {self.key}"),
            ("127.0.0.1:9313\n}", f"{upstream}\n}}"),
        )
        path = self.folder / "Caddyfile"
        path.write_text(CADDY_MAIN.format(ours=ours))
        program = PROGRAMS["caddy"]
        assert program is not None
        return [program, "run", "--config", str(path), "--adapter", "caddyfile"]


PROXIES: dict[str, type[Proxy]] = {"nginx": Nginx, "caddy": Caddy}


def installed(name: str) -> Any:
    absent = pytest.mark.skipif(PROGRAMS[name] is None, reason=f"{name} is not installed here")
    return pytest.param(PROXIES[name], id=name, marks=absent)


every_proxy = pytest.mark.parametrize("kind", [installed(name) for name in PROXIES])
only_nginx = pytest.mark.parametrize("kind", [installed("nginx")])


def upgrade(proxy: Proxy, trust: ssl.SSLContext, source: str = "127.0.0.1", **more: str) -> int:
    """Ask for a WebSocket, and return the status of the answer."""
    lines = {
        "Host": proxy.address,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **more,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    host, _, port = proxy.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), PATIENCE, (source, 0)) as plain,
        trust.wrap_socket(plain, server_hostname=host) as sock,
    ):
        sock.sendall(f"GET /ws/bus HTTP/1.1\r\n{head}\r\n".encode())
        answer = b""
        while b"\r\n" not in answer:
            data = sock.recv(1024)
            assert data, "the proxy closed the connection"
            answer += data
    return int(answer.split()[1])


@contextlib.contextmanager
def standstill() -> Iterator[Callable[[], float]]:
    """Tell for how long this process stood still at most, since one has asked before."""
    ended = threading.Event()
    pauses = [0.0]

    def watch() -> None:
        before = time.monotonic()
        while not ended.wait(0.05):
            now = time.monotonic()
            pauses.append(now - before)
            before = now

    def longest() -> float:
        time.sleep(0.1)  # the latest pause has been noted, too
        found, pauses[:] = max(pauses), [0.0]
        return found

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield longest
    finally:
        ended.set()
        watching.join()


@pytest.fixture(params=DRIVERS, ids="{}-server".format)
def servers(request: pytest.FixtureRequest) -> Iterator[AnyDriver]:
    driver = DRIVERS[request.param]()
    yield driver
    driver.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trust(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def put_before(tmp_path: Path, authority: trustme.CA) -> Iterator[Callable[..., Any]]:
    """Puts a proxy before a server."""
    proxies: list[Proxy] = []

    def start(kind: type[Proxy], server: Any) -> Any:
        proxies.append(kind(server.address, tmp_path / str(len(proxies)), authority))
        proxies[-1].start()
        return proxies[-1]

    yield start
    for proxy in proxies:
        proxy.stop()


@every_proxy
def test_the_bus_and_the_pages(
    kind: type[Proxy], servers: AnyDriver, put_before: Callable[..., Any], trust: ssl.SSLContext
) -> None:
    proxy = put_before(kind, servers.server())
    inbox = Inbox()
    with (
        kps.sync.Client(proxy.url, id="reader", ssl=trust, reconnect=False) as reader,
        kps.sync.Client(proxy.url, id="writer", ssl=trust, reconnect=False) as writer,
    ):
        reader.subscribe("t", inbox)
        responses = writer.publish_with_ack("t", {"n": 1}, PATIENCE).wait()
        assert [(one.client_id, one.success) for one in responses.values()] == [("reader", True)]
        assert inbox.data() == {"n": 1}
        writer.publish("t", "x" * 500_000)  # more than a proxy takes at once
        assert inbox.data() == "x" * 500_000
    for path in ("/", "/kps.js", "/healthz"):
        connection = http.client.HTTPSConnection(proxy.address, context=trust, timeout=PATIENCE)
        connection.request("GET", path)
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (200, True)
        connection.close()
    # The proxy's own pages may connect, since KPS is told which host they are of.
    assert upgrade(proxy, trust, Origin=f"https://{proxy.address}") == 101
    assert upgrade(proxy, trust, Origin="https://elsewhere.example") == 403


@every_proxy
def test_events_of_a_stream_are_not_kept_back(
    kind: type[Proxy], servers: AnyDriver, put_before: Callable[..., Any], trust: ssl.SSLContext
) -> None:
    server = servers.server()
    proxy = put_before(kind, server)
    connection = http.client.HTTPSConnection(proxy.address, context=trust, timeout=PATIENCE)
    connection.request("GET", "/sse?topic=t")
    response = connection.getresponse()
    server.publish("t", "hello")
    reader, events = EventReader(), list[Event]()
    while not events:
        events = reader.feed(response.read1())
    assert events[0].data["data"] == "hello"
    connection.close()
    response.close()
    eventually(lambda: server.count_clients() == 0, "the end of the stream")


@every_proxy
def test_compression_passes(
    kind: type[Proxy], servers: AnyDriver, put_before: Callable[..., Any], trust: ssl.SSLContext
) -> None:
    server = servers.server(compress=True)
    proxy = put_before(kind, server)
    inbox, text = Inbox(), "again and again; " * 5000
    with kps.sync.Client(proxy.url, ssl=trust, reconnect=False) as reader:
        reader.subscribe("t", inbox)
        before = server._hub.stats.bytes_out
        server.publish("t", text)
        assert inbox.data() == text
        assert server._hub.stats.bytes_out - before < len(text) // 10


@every_proxy
def test_the_server_is_told_who_connects(
    kind: type[Proxy], servers: AnyDriver, put_before: Callable[..., Any], trust: ssl.SSLContext
) -> None:
    peers = Inbox()

    def look(request: kps.HttpRequest) -> bool:
        peers(request.peer.partition(":")[0])
        return True

    proxy = put_before(kind, servers.server(proxies=["127.0.0.1"], on_upgrade=look))
    headers = {"X-Forwarded-For": "10.1.2.3"}  # which is not true
    assert upgrade(proxy, trust, source="127.0.0.9", **headers) == 101
    assert peers.get() == "127.0.0.9"


@only_nginx
def test_heartbeats_keep_a_connection_through_silence(
    kind: type[Proxy], servers: AnyDriver, put_before: Callable[..., Any], trust: ssl.SSLContext
) -> None:
    """One connection has heartbeats, the other has none: nginx cuts the younger one.

    It cuts both if this process, in which the ends of both are, stands still for so long.
    """
    intervals = (0.3, 10 * PATIENCE)
    proxies = [
        put_before(kind, servers.server(limits=kps.ServerLimits(heartbeat_interval=interval)))
        for interval in intervals
    ]
    lively, silent = (kps.ClientLimits(heartbeat_interval=interval) for interval in intervals)
    options: dict[str, Any] = {"ssl": trust, "reconnect": False}

    def stays_longer() -> bool:
        gone, stays = Inbox(), Inbox()
        url = proxies[0].url
        with kps.sync.Client(url, limits=lively, on_disconnect=stays, **options) as survivor:
            began = time.monotonic()
            with kps.sync.Client(proxies[1].url, limits=silent, on_disconnect=gone, **options):
                gone.get()
            assert time.monotonic() - began >= READ_TIMEOUT - 0.1
            try:
                survivor.flush()
            except kps.KPSError:
                return False
            return stays.is_empty()

    with standstill() as longest:
        while not stays_longer():
            assert longest() > READ_TIMEOUT / 2, "heartbeats do not keep a connection"


@every_proxy
def test_clients_come_back_when_the_proxy_does(
    kind: type[Proxy], servers: AnyDriver, put_before: Callable[..., Any], trust: ssl.SSLContext
) -> None:
    server = servers.server()
    proxy = put_before(kind, server)
    inbox, comings, goings = Inbox(), Inbox(), Inbox()
    with kps.sync.Client(
        proxy.url, ssl=trust, reconnect=0.05, on_connect=comings, on_disconnect=goings
    ) as client:
        client.subscribe("t", inbox)
        comings.get()

        def comes_back() -> None:
            goings.get()
            comings.get()
            eventually(lambda: server.count_subscribers("t")[1] == 1, "the subscription")
            server.publish("t", "still here?")
            assert inbox.data() == "still here?"

        if isinstance(proxy, Nginx):
            proxy.reload()  # the new worker takes new connections; the old one ends its own
            comes_back()
        proxy.stop()
        goings.get()
        proxy.start()
        comings.get()
        client.flush()
