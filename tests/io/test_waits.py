"""What a program waits for ends as it should, whatever happens meanwhile, on every driver."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import kps
import kps.io_asyncio.client
import kps.io_sync.client
import kps.sync
from tests.io.harness import PATIENCE, AnyDriver, Cable, Inbox

QUICK = kps.Backoff(first=0.01, longest=0.05)


@pytest.fixture
def cable(servers: AnyDriver) -> Any:
    cable = Cable(servers.server().address)
    yield cable
    cable.close()


def in_thread(function: Callable[[], Any]) -> tuple[threading.Thread, Inbox]:
    """Run a function in a thread; its result, or what it raised, comes into the inbox."""
    outcome = Inbox()

    def run() -> None:
        try:
            outcome(function())
        except Exception as error:
            outcome(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def waits_for_room(client: Any, cable: Cable) -> tuple[threading.Thread, Inbox]:
    """Publish until that waits, since the network takes nothing more."""
    cable.jammed = True
    published = 0

    def publish() -> None:
        nonlocal published
        while cable.jammed:
            client.publish("t", "x" * 100_000)
            published += 1

    waiting = in_thread(publish)
    looks: list[int] = []  # several, since the driver's thread may be late with what still fits
    while len(looks) < 4 or len(set(looks[-4:])) > 1 or not client._driver.wanting_room:
        looks.append(published)
        time.sleep(0.05)
    return waiting


def test_a_subscription_that_is_not_confirmed_leaves_nothing_behind(
    clients: AnyDriver, cable: Cable
) -> None:
    client = clients.client(cable.address, request_timeout=0.1)
    cable.stalled = True
    with pytest.raises(kps.RequestTimeout):
        client.subscribe("t", Inbox())
    assert client._session.subscriptions.keys == []
    assert client._driver.dispatcher._callbacks == {}


@pytest.mark.parametrize("step", ["attach", "progress"])
def test_a_subscription_that_is_interrupted_leaves_nothing_behind(
    servers: AnyDriver, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Ctrl-C comes at any time; ``subscribe`` then returned no handle to end it by."""
    with kps.sync.Client(servers.server().address) as client, monkeypatch.context() as patched:
        original = getattr(client._driver, step)

        def interrupted(*args: Any) -> None:
            patched.setattr(client._driver, step, original)
            raise KeyboardInterrupt

        patched.setattr(client._driver, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.subscribe("t", Inbox())
        assert client._session.subscriptions.keys == []
        assert client._driver.dispatcher._callbacks == {}


def test_a_publish_that_waits_ends_with_the_connection(clients: AnyDriver, cable: Cable) -> None:
    client = clients.client(cable.address, reconnect=QUICK)
    _, outcome = waits_for_room(client, cable)
    cable.cut()
    assert isinstance(outcome.get(), kps.ConnectionLost)


def test_a_publish_that_waits_is_kept_by_the_offline_queue(
    clients: AnyDriver, cable: Cable
) -> None:
    client = clients.client(cable.address, reconnect=QUICK, offline_queue=1000)
    _, outcome = waits_for_room(client, cable)
    cable.refuses = True
    cable.jammed = False  # so it publishes no more
    cable.cut()
    assert outcome.get() is None


def test_a_publish_that_waits_ends_with_the_client(clients: AnyDriver, cable: Cable) -> None:
    limits = kps.ClientLimits(close_timeout=0.2)
    client = clients.client(cable.address, limits=limits)
    _, outcome = waits_for_room(client, cable)
    client.close()
    assert isinstance(outcome.get(), kps.ClientClosed)


def test_an_ack_request_to_a_silent_server_ends_with_an_error(
    clients: AnyDriver, cable: Cable
) -> None:
    client = clients.client(cable.address)
    cable.stalled = True
    ack = client.publish_with_ack("t", 1, timeout=0.1)
    for wait in (ack.wait, ack.wait_any, lambda: list(ack), ack.wait, ack.status):
        with pytest.raises(kps.RequestTimeout):
            wait()
    assert ack.responses == {}
    assert not ack.is_complete()


def test_a_refused_subscription_on_level_1_is_told_at_once(
    clients: AnyDriver, servers: AnyDriver
) -> None:
    server = servers.server(level=1, permissions=kps.Permissions(subscribe=["allowed"]))
    client = clients.client(server.address, request_timeout=PATIENCE)
    client.publish("allowed", 1)
    with pytest.raises(kps.ServerError, match="may not subscribe"):
        client.subscribe("secret", Inbox())
    client.publish_to_id("nobody", 1)  # which is refused as well, and takes a probe
    with pytest.raises(kps.ServerError, match="may not subscribe"):
        client.subscribe("secret", Inbox())
    client.subscribe("allowed", Inbox())


def test_several_threads_may_ask_for_one_status(clients: AnyDriver, servers: AnyDriver) -> None:
    server = servers.server()
    release = threading.Event()
    slow, client = clients.client(server.address, id="slow"), clients.client(server.address)
    slow.subscribe("t", lambda message: release.wait(PATIENCE))
    ack = client.publish_with_ack("t", 1, timeout=60.0)
    for _ in range(20):
        asking = [in_thread(ack.status) for _ in range(4)]
        for _, outcome in asking:
            assert outcome.get() == {"slow": False}
    release.set()


@pytest.mark.parametrize("failure", [RuntimeError("can't start new thread"), ValueError("odd")])
def test_a_link_that_fails_in_an_unexpected_way_blocks_nothing(
    servers: AnyDriver, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    data = Inbox()
    target = servers.server(on_server_data=data)
    server = servers.server()

    class Broken:
        def __init__(self, *args: object, **options: object) -> None:
            raise failure

    with monkeypatch.context() as patch:
        for module in (kps.io_asyncio.client, kps.io_sync.client):
            patch.setattr(module, "Client", Broken)
        with pytest.raises(kps.ConnectFailed):
            server.publish_to_server(target.address, 1)
    server.publish_to_server(target.address, 2)
    assert data.data() == 2


def test_a_stop_that_is_cancelled_can_be_finished() -> None:
    async def main() -> None:
        server = kps.Server("127.0.0.1:0")
        await server.start()
        host, _, port = server.address.rpartition(":")
        with socket.create_connection((host, int(port))) as silent:
            silent.sendall(
                b"GET /ws/bus HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                b"Sec-WebSocket-Version: 13\r\n\r\n"
            )
            while not server._driver.connections:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(server.stop(), 0.05)
            stopping = asyncio.create_task(server.stop(grace=0.05))
            await asyncio.wait_for(
                asyncio.gather(stopping, server.stop(), server.serve()), PATIENCE
            )

    asyncio.run(main())


def test_an_answer_wakes_who_asked_and_nobody_else(servers: AnyDriver) -> None:
    async def main() -> None:
        looks = 0

        def look() -> bool:
            nonlocal looks
            looks += 1
            return False

        async with kps.Client(servers.server().address) as client:
            other = asyncio.create_task(client._in_time("another", look, "no answer"))
            waiting = asyncio.create_task(client._driver.news.until(look))
            await asyncio.sleep(0)
            before = looks
            await client.publish_with_receipt("t", 1)
            await client.flush()
            async with client.subscribe("t"):
                pass
            assert looks == before
            for task in (other, waiting):
                task.cancel()
            await asyncio.gather(other, waiting, return_exceptions=True)
            assert not client._waiting

    asyncio.run(main())
