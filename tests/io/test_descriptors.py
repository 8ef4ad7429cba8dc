"""A server without descriptors left turns connections away, and forgets them."""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from typing import Any

import pytest

import kps
import kps.sync
from kps.io_sync import connection
from tests.io.harness import DRIVERS, PATIENCE

EMFILE = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
ONE = kps.ServerLimits(max_connections=1)


@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "TLS"])
def test_a_thread_that_gets_no_descriptors(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    secure: tuple[ssl.SSLContext, ssl.SSLContext],
    is_secure: bool,
) -> None:
    """What it leaves behind would be in the place of the only connection that there may be."""
    server_context, client_context = secure
    context = server_context if is_secure else None
    with kps.sync.Server("127.0.0.1:0", limits=ONE, ssl=context) as server:
        host, _, port = server.address.rpartition(":")
        waker = connection.Waker

        def no_waker() -> Any:
            monkeypatch.setattr(connection, "Waker", waker)
            raise EMFILE

        monkeypatch.setattr(connection, "Waker", no_waker)
        with contextlib.ExitStack() as peers:
            peer = peers.enter_context(socket.create_connection((host, int(port)), PATIENCE))
            if is_secure:
                peer = client_context.wrap_socket(peer, server_hostname=host)
                peers.enter_context(peer)
            with contextlib.suppress(ConnectionResetError, ssl.SSLError):
                assert peer.recv(1) == b""
        assert "cannot serve a connection: too many open files" in caplog.text
        with kps.sync.Client(
            server.url, ssl=client_context if is_secure else None, reconnect=False
        ) as client:
            client.flush()


def test_accepting_tls_without_descriptors(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    secure: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server_context, client_context = secure
    loops = asyncio.selector_events.BaseSelectorEventLoop
    accept = loops.sock_accept

    async def no_accept(*arguments: Any) -> Any:
        monkeypatch.setattr(loops, "sock_accept", accept)
        raise EMFILE

    monkeypatch.setattr(loops, "sock_accept", no_accept)
    driver = DRIVERS["asyncio"]()
    try:
        server = driver.server(ssl=server_context)
        with kps.sync.Client(server.url, ssl=client_context, reconnect=False) as client:
            client.flush()
        assert "cannot accept a connection: too many open files" in caplog.text
    finally:
        driver.close()
