"""Clients that start without waiting for their server (``wait=False``)."""

import asyncio
import threading

import pytest

import kps
import kps.sync
from tests.io.harness import PATIENCE, eventually


def test_on_asyncio(address: str) -> None:
    async def main() -> None:
        came: asyncio.Queue[object] = asyncio.Queue()
        connected = asyncio.Event()

        async def on_connect(_: kps.Connected) -> None:
            connected.set()

        client = kps.Client(address, wait=False, reconnect=0.05, on_connect=on_connect)
        async with client, asyncio.timeout(PATIENCE):
            assert not client.is_connected
            await client.subscribe("t", lambda message: came.put_nowait(message.data), inline=True)
            with pytest.raises(kps.NotConnected):
                await client.publish("t", 1)
            with pytest.raises(kps.NotConnected):
                await client.publish_with_ack("t", 1)
            async with kps.Server(address) as server:
                await connected.wait()
                while not await server.publish("t", 2):
                    await asyncio.sleep(0.01)
                assert await came.get() == 2

    asyncio.run(main())


def test_what_it_publishes_before_can_be_kept(address: str) -> None:
    async def main() -> None:
        client = kps.Client(address, wait=False, reconnect=0.05, offline_queue=5)
        async with client, asyncio.timeout(PATIENCE):
            await client.publish("t", 1)
            server = kps.Server(address)
            came: asyncio.Queue[object] = asyncio.Queue()
            async with server:
                server.subscribe("t", lambda message: came.put_nowait(message.data), inline=True)
                assert await came.get() == 1

    asyncio.run(main())


def test_on_threads(address: str) -> None:
    connected = threading.Event()
    with kps.sync.Client(
        address, wait=False, reconnect=0.05, on_connect=lambda _: connected.set()
    ) as client:
        assert not client.is_connected
        with pytest.raises(kps.NotConnected):
            client.publish("t", 1)
        with kps.sync.Server(address) as server:
            assert connected.wait(PATIENCE)
            client.publish("t", 1)
            eventually(lambda: server.count_clients() == 1)


def test_without_reconnecting_it_ends_and_says_why(address: str) -> None:
    ended = threading.Event()
    client = kps.sync.Client(address, wait=False, reconnect=False, on_close=ended.set)
    with client:
        assert ended.wait(PATIENCE)
        with pytest.raises(kps.ClientClosed, match="cannot connect"):
            client.publish("t", 1)


def refused(_: str) -> None:
    """Nobody's token is valid."""


def ends(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines about clients that have ended for good."""
    return [one.getMessage() for one in caplog.records if vars(one).get("event") == "client_ended"]


def test_whoever_is_refused_for_good_is_told_so_by_the_log_on_asyncio(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def on_close() -> None:
            ended.set()

        async with kps.Server("localhost:0", auth=refused) as server, asyncio.timeout(PATIENCE):
            with pytest.raises(kps.ConnectFailed):  # which is told where it is raised
                await kps.Client.connect(server.address, token="x")
            assert ends(caplog) == []
            client = kps.Client(server.address, token="x", wait=False, on_close=on_close)
            async with client:
                await ended.wait()

    asyncio.run(main())
    (line,) = ends(caplog)
    assert line.endswith("refused with HTTP status 401")


def test_whoever_is_refused_for_good_is_told_so_by_the_log_on_threads(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with kps.sync.Server("localhost:0", auth=refused) as server:
        with pytest.raises(kps.ConnectFailed):
            kps.sync.Client.connect(server.address, token="x")
        with kps.sync.Client(server.address, token="x", wait=False):
            eventually(lambda: len(ends(caplog)) == 1, "the line")
