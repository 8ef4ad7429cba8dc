"""The server's TLS: what it accepts, client certificates, and reading its files again."""

import contextlib
import datetime
import os
import queue
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

import kps
import kps.sync
from tests.io.harness import PATIENCE, AnyDriver, Inbox, eventually

RSA, ECDSA = trustme.KeyType.RSA, trustme.KeyType.ECDSA


class Files:
    """A server's certificate and key, in files, by an authority that can be replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cert, self.key = str(folder / "cert.pem"), str(folder / "key.pem")
        self.authority = trustme.CA()
        self.renew()

    def renew(self, kind: trustme.KeyType = ECDSA) -> bytes:
        """Write a new certificate and its key; return the certificate as clients see it."""
        issued = self.authority.issue_cert("127.0.0.1", key_type=kind)
        chain = [blob.bytes() for blob in issued.cert_chain_pems]
        Path(self.cert).write_bytes(b"".join(chain))
        Path(self.key).write_bytes(issued.private_key_pem.bytes())
        self.now = ssl.PEM_cert_to_DER_cert(chain[0].decode())
        return self.now

    def write(self, name: str, *blobs: trustme.Blob) -> str:
        path = self.folder / name
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return str(path)

    def trust(self) -> ssl.SSLContext:
        """A context for clients that trust the authority."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    def seen(self, address: str) -> bytes | None:
        """The certificate that a new connection is shown."""
        with dial(address, self.trust()) as peer:
            return peer.getpeercert(binary_form=True)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def server(servers: AnyDriver, files: Files) -> Any:
    return servers.server(tls_cert=files.cert, tls_key=files.key)


def dial(address: str, context: ssl.SSLContext) -> ssl.SSLSocket:
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=PATIENCE)
    try:
        return context.wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise


@contextlib.contextmanager
def client(address: str, context: ssl.SSLContext) -> Iterator[kps.sync.Client]:
    with kps.sync.Client(f"wss://{address}/ws/bus", ssl=context, reconnect=False) as client:
        yield client


def works(client: kps.sync.Client) -> bool:
    """Whether a client can talk with the server."""
    client.flush()
    return client.is_connected


# -- what it accepts ------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:ssl.PROTOCOL_TLS:DeprecationWarning")
def test_nothing_below_tls_1_2(server: Any, servers: AnyDriver, files: Files) -> None:
    def old(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
        context.minimum_version = version
        context.maximum_version = version
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        return context

    lax = old(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.TLSVersion.TLSv1_1)
    lax.load_cert_chain(files.cert, files.key)
    with dial(servers.server(ssl=lax).address, old(files.trust(), ssl.TLSVersion.TLSv1_1)) as peer:
        assert peer.version() == "TLSv1.1"  # so this client could
    with pytest.raises(OSError):
        dial(server.address, old(files.trust(), ssl.TLSVersion.TLSv1_1))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with dial(server.address, old(files.trust(), version)) as peer:
            assert peer.version() == version.name.replace("_", ".")


def test_a_client_that_dribbles_its_handshake(servers: AnyDriver, files: Files) -> None:
    """The time is that of the handshake as a whole, and nobody else waits for it."""

    def serve(timeout: float) -> Any:
        limits = kps.ServerLimits(handshake_timeout=timeout)
        return servers.server(tls_cert=files.cert, tls_key=files.key, limits=limits)

    record = b"\x16\x03\x01\x40\x00" + b"\x01\x00\x3f\xfc" + bytes(16384 - 4)
    server = serve(3 * PATIENCE)
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port))) as peer:
        peer.send(record[:1])
        assert files.seen(server.address) == files.now
    server = serve(0.5)
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port))) as peer:
        peer.settimeout(0.02)
        for number in range(int(PATIENCE / 0.02)):
            try:
                peer.send(record[number : number + 1])
                assert peer.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                pass
            return
    raise AssertionError("the server still waits")


def test_stopping_ends_handshakes_under_way(servers: AnyDriver, files: Files) -> None:
    limits = kps.ServerLimits(handshake_timeout=3 * PATIENCE)
    server = servers.server(tls_cert=files.cert, tls_key=files.key, limits=limits)
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as peer:
        peer.send(b"\x16\x03\x01")
        with client(server.address, files.trust()):  # connections are accepted in order
            pass
        server.stop()
        with contextlib.suppress(ConnectionResetError):
            assert peer.recv(1) == b""


@pytest.mark.parametrize(
    "limits",
    [
        kps.ServerLimits(max_connections=3, handshake_timeout=3 * PATIENCE),
        kps.ServerLimits(max_connections_per_address=3, handshake_timeout=3 * PATIENCE),
    ],
    ids=["in all", "from one address"],
)
def test_handshakes_count_as_connections(
    servers: AnyDriver, files: Files, limits: kps.ServerLimits
) -> None:
    """Who is too many is turned away before the work of a handshake is done."""
    server = servers.server(tls_cert=files.cert, tls_key=files.key, limits=limits)
    host, _, port = server.address.rpartition(":")
    idle = [socket.create_connection((host, int(port)), timeout=PATIENCE) for _ in range(2)]
    try:
        with client(server.address, files.trust()) as last:  # connections are accepted in order
            with pytest.raises(OSError):
                dial(server.address, files.trust())
            assert works(last)
            idle.pop().close()

            def has_room() -> bool:
                with contextlib.suppress(kps.ConnectFailed):
                    with client(server.address, files.trust()) as another:
                        return works(another)
                return False

            eventually(has_room, "room for another client")
    finally:
        for peer in idle:
            peer.close()


# -- client certificates --------------------------------------------------------------------


def test_client_certificates(servers: AnyDriver, clients: AnyDriver, files: Files) -> None:
    fleet = trustme.CA()
    server = servers.server(
        tls_cert=files.cert, tls_key=files.key, tls_client_ca=files.write("ca.pem", fleet.cert_pem)
    )

    def shows(authority: trustme.CA | None) -> ssl.SSLContext:
        context = files.trust()
        if authority is not None:
            authority.issue_cert("device-7").configure_cert(context)
        return context

    assert clients.client(server.url, ssl=shows(fleet), reconnect=False).is_connected
    for stranger in (None, trustme.CA(), files.authority):
        with pytest.raises(kps.ConnectFailed):
            clients.client(server.url, ssl=shows(stranger), reconnect=False)
    # Another authority in place of the first one, which is not kept beside it.
    other = trustme.CA()
    files.write("ca.pem", other.cert_pem)
    server.reload()
    assert clients.client(server.url, ssl=shows(other), reconnect=False).is_connected
    with pytest.raises(kps.ConnectFailed):
        clients.client(server.url, ssl=shows(fleet), reconnect=False)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("authority", "certificate verify failed: unable to get local issuer certificate"),
        ("name", "certificate verify failed: IP address mismatch, certificate is not valid for "),
        ("time", "certificate verify failed: certificate has expired"),
        ("plain", "the other end does not speak TLS"),
    ],
)
def test_a_client_learns_which_check_has_failed(
    servers: AnyDriver, clients: AnyDriver, files: Files, fault: str, reason: str
) -> None:
    issued = files.authority.issue_cert(
        "other.example" if fault == "name" else "127.0.0.1",
        not_after=datetime.datetime(2020, 1, 1) if fault == "time" else None,
    )
    cert = files.write("c.pem", issued.private_key_and_cert_chain_pem)
    server = servers.server() if fault == "plain" else servers.server(tls_cert=cert)
    context = ssl.create_default_context() if fault == "authority" else files.trust()
    with pytest.raises(kps.ConnectFailed) as failed:
        clients.client(f"wss://{server.address}", ssl=context, reconnect=False)
    assert re.search(f": {reason}", str(failed.value), re.IGNORECASE)


# -- reading the files again ----------------------------------------------------------------


def test_reloading_is_for_new_connections(server: Any, files: Files, clients: AnyDriver) -> None:
    inbox = Inbox()
    before = clients.client(server.url, ssl=files.trust(), reconnect=False)
    before.subscribe("t", inbox)
    first = files.now
    files.authority = trustme.CA()
    second = files.renew()
    with pytest.raises(ssl.SSLCertVerificationError):
        files.seen(server.address)  # not yet
    server.reload()
    assert files.seen(server.address) == second != first
    after = clients.client(server.url, ssl=files.trust(), reconnect=False)
    after.publish("t", "news")
    assert inbox.data() == "news"
    assert before.is_connected


def test_a_certificate_of_another_kind_replaces_the_old_one(server: Any, files: Files) -> None:
    """OpenSSL would keep both, and show the old one to whoever likes it better."""
    context = files.trust()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    dial(server.address, context).close()
    files.renew(RSA)
    server.reload()
    with pytest.raises(OSError):
        dial(server.address, context)
    assert files.seen(server.address) == files.now


def break_key(files: Files) -> str:
    Path(files.key).write_bytes(files.authority.issue_cert("x").private_key_pem.bytes())
    return f"cannot use the key {files.key}: it is not that of the certificate {files.cert}"


def break_key_kind(files: Files) -> str:
    issued = files.authority.issue_cert("x", key_type=RSA)
    Path(files.key).write_bytes(issued.private_key_pem.bytes())
    return f"cannot use the key {files.key}: it is not that of the certificate {files.cert}"


def garble_key(files: Files) -> str:
    Path(files.key).write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    return f"cannot use the key {files.key}: no PEM private key in it"


def encrypt_key(files: Files) -> str:
    from cryptography.hazmat.primitives import serialization

    pem = Path(files.key).read_bytes()
    Path(files.key).write_bytes(
        serialization.load_pem_private_key(pem, None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return f"cannot use the key {files.key}: it is encrypted, and must not be"


def lose_key(files: Files) -> str:
    os.unlink(files.key)
    return f"cannot use the key {files.key}: no such file or directory"


def lose_cert(files: Files) -> str:
    os.unlink(files.cert)
    return f"cannot use the certificate {files.cert}: no such file or directory"


def garble_cert(files: Files) -> str:
    Path(files.cert).write_text("hello\n")
    return f"cannot use the certificate {files.cert}: no PEM certificate in it"


def make_cert_a_folder(files: Files) -> str:
    os.unlink(files.cert)
    os.mkdir(files.cert)
    return f"cannot use the certificate {files.cert}: is a directory"


BREAKAGES = [
    break_key,
    break_key_kind,
    garble_key,
    encrypt_key,
    lose_key,
    lose_cert,
    garble_cert,
    make_cert_a_folder,
]


@pytest.mark.parametrize("breaks", BREAKAGES, ids=lambda breaks: breaks.__name__)
def test_files_that_cannot_be_used(
    servers: AnyDriver, files: Files, breaks: Callable[[Files], str]
) -> None:
    """At the start; and later, when the server goes on with what it had."""
    server = servers.server(tls_cert=files.cert, tls_key=files.key)
    before, message = files.now, breaks(files)
    with pytest.raises(kps.ServerStartFailed, match=f"^{re.escape(message)}$"):
        server.reload()
    assert files.seen(server.address) == before
    with pytest.raises(kps.ServerStartFailed, match=f"^{re.escape(message)}$"):
        servers.server(tls_cert=files.cert, tls_key=files.key)


def test_authorities_that_cannot_be_used(servers: AnyDriver, files: Files) -> None:
    path = files.write("ca.pem", files.authority.cert_pem)
    options = {"tls_cert": files.cert, "tls_key": files.key, "tls_client_ca": path}
    server = servers.server(**options)
    files.write("ca.pem", files.authority.issue_cert("x").private_key_pem)
    message = f"cannot use the authorities {path}: no PEM certificate in it"
    for act in (server.reload, lambda: servers.server(**options)):
        with pytest.raises(kps.ServerStartFailed, match=f"^{re.escape(message)}$"):
            act()
    with pytest.raises(kps.ServerStartFailed, match="cannot use the authorities : no such file"):
        servers.server(tls_cert=files.cert, tls_key=files.key, tls_client_ca="")


def test_settings_that_would_mean_less_than_they_say(servers: AnyDriver, files: Files) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for options in (
        {"tls_client_ca": files.cert},
        {"tls_key": files.key},
        {"ssl": context, "tls_client_ca": files.cert},
        {"ssl": context, "tls_cert": files.cert, "tls_key": files.key},
    ):
        with pytest.raises(kps.InvalidArgument, match="tls_cert"):
            servers.server(**options)


def test_a_context_of_the_program_is_left_alone(
    servers: AnyDriver, secure: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server_context, client_context = secure
    server = servers.server(ssl=server_context)
    server.reload()
    dial(server.address, client_context).close()
    servers.server().reload()  # nor does it harm where there is no TLS at all


# -- as processes ---------------------------------------------------------------------------


class Serve:
    """A ``kps serve`` process, with what it logs."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kps", "serve", "--address", "127.0.0.1:0", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]
        self.address = self.url.split("/")[2]
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def hang_up(self) -> str:
        """Send SIGHUP, and return the line that it leads to, after the name of the logger."""
        self.process.send_signal(signal.SIGHUP)
        while True:
            line = self._lines.get(timeout=PATIENCE)
            if "reload" in line:
                return line.split(" ", 1)[1].rstrip()

    def close(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        self._reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)


needs_sighup = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
either_driver = pytest.mark.parametrize("flags", [[], ["--threads"]], ids=["asyncio", "threads"])


@needs_sighup
@either_driver
def test_sighup_reloads(files: Files, flags: list[str]) -> None:
    serve = Serve(*flags, "--tls-cert", files.cert, "--tls-key", files.key)
    try:
        with client(serve.address, files.trust()) as before:
            second = files.renew()
            assert serve.hang_up() == "INFO kps: reloaded the certificate"
            assert files.seen(serve.address) == second
            message = lose_key(files)
            assert serve.hang_up() == f"ERROR kps: cannot reload; old files stay in use: {message}"
            assert files.seen(serve.address) == second
            assert works(before)
    finally:
        assert serve.close() == 0


def test_the_commands_trust_and_show_certificates(files: Files) -> None:
    ca = files.write("ca.pem", files.authority.cert_pem)
    device = files.authority.issue_cert("device-7")
    shown = files.write("device.pem", device.private_key_and_cert_chain_pem)
    cert = files.write("device-cert.pem", *device.cert_chain_pems)
    key = files.write("device-key.pem", device.private_key_pem)
    serve = Serve("--tls-cert", files.cert, "--tls-key", files.key, "--tls-client-ca", ca)

    def run(*arguments: str, address: str = serve.url) -> tuple[int, str]:
        result = subprocess.run(
            [sys.executable, "-m", "kps", *arguments, "--address", address],
            capture_output=True, text=True, timeout=3 * PATIENCE, check=False,
        )  # fmt: skip
        return result.returncode, result.stderr

    try:
        assert run("pub", "t", "1", "--tls-ca", ca, "--tls-cert", shown) == (0, "")
        separate = ("--tls-ca", ca, "--tls-cert", cert, "--tls-key", key)
        assert run("bench", "--seconds", "0.1", *separate, address=serve.address) == (0, "")
        code, errors = run("pub", "t", "1", "--tls-ca", ca)
        assert (code, errors.count("\n")) == (1, 1)
        assert errors.startswith(f"kps pub: cannot connect to {serve.address}: ")
        for arguments, error in (
            (("--tls-ca", "/nowhere"), "cannot use the authorities /nowhere: no such file"),
            (("--tls-key", key), "--tls-key needs --tls-cert"),
        ):
            code, errors = run("sub", "t", *arguments)
            assert (code, errors.count("\n")) == (2, 1)
            assert errors.startswith(f"kps sub: {error}")
        plain = f"ws://{serve.address}"
        code, errors = run("pub", "t", "1", "--tls-ca", ca, address=plain)
        assert (code, errors.count("\n")) == (2, 1)
        assert errors.startswith(f"kps pub: there is no TLS with {plain}")
    finally:
        assert serve.close() == 0


@needs_sighup
@either_driver
def test_sighup_is_harmless_without_files(flags: list[str]) -> None:
    serve = Serve(*flags)
    try:
        nothing = "INFO kps: reloaded nothing: there are no files to read"
        assert serve.hang_up() == nothing
        assert serve.hang_up() == nothing
        with kps.sync.Client(serve.url, reconnect=False) as client:
            assert works(client)
    finally:
        assert serve.close() == 0
