"""What a program does at the wrong time, on both drivers."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import kps
import kps.sync
from tests.ports import kept_address

STARTS: list[Callable[[Any], Any]] = [
    lambda client: client.publish("t", 1),
    lambda client: client.publish_to_id("a", 1),
    lambda client: client.publish_to_server("a:1", 1),
    lambda client: client.publish_with_ack("t", 1),
    lambda client: client.publish_to_id_with_ack("a", 1),
    lambda client: client.subscribe("t"),
    lambda client: client.unsubscribe("t"),
]
CLIENT_STARTS: list[Callable[[Any], Any]] = [
    *STARTS,
    lambda client: client.flush(),
    lambda client: client.publish_with_receipt("t", 1),
    lambda client: client.run(),
]


async def run(call: Callable[[Any], Any], target: Any) -> None:
    with pytest.raises(kps.InvalidState, match="not started yet"):
        await call(target)


@pytest.mark.parametrize("call", CLIENT_STARTS)
def test_a_client_that_is_not_started(call: Callable[[Any], Any]) -> None:
    asyncio.run(run(call, kps.Client("localhost:9313", offline_queue=10)))
    with pytest.raises(kps.InvalidState, match="not started yet"):
        call(kps.sync.Client("localhost:9313", offline_queue=10))


@pytest.mark.parametrize("call", [*STARTS, lambda server: server.count_clients()])
def test_a_server_that_is_not_started(call: Callable[[Any], Any]) -> None:
    asyncio.run(run(call, kps.Server("localhost:9313")))
    with pytest.raises(kps.InvalidState, match="not started yet"):
        call(kps.sync.Server("localhost:9313"))


def test_what_can_be_asked_and_closed_before_the_start() -> None:
    client = kps.sync.Client("localhost:9313", id="a")
    assert (client.id, client.is_connected, client.dropped) == ("a", False, 0)
    client.close()
    kps.sync.Server("localhost:9313").stop()

    async def main() -> None:
        client = kps.Client("localhost:9313", id="a")
        assert (client.id, client.is_connected, client.dropped) == ("a", False, 0)
        await client.close()
        await kps.Server("localhost:9313").stop()

    asyncio.run(main())


def accept(request: kps.HttpRequest) -> bool:
    return True


def test_things_start_once_and_hooks_are_set_before() -> None:
    async def main() -> None:
        async with kps.Server("127.0.0.1:0") as server, kps.Client(server.address) as client:
            with pytest.raises(kps.InvalidState):
                await server.start()
            with pytest.raises(kps.InvalidState):
                server.on_upgrade(accept)
            with pytest.raises(kps.InvalidState):
                await client.__aenter__()
        with pytest.raises(kps.InvalidState, match="stopped"):
            await server.publish("t", 1)
        with pytest.raises(kps.InvalidState, match="stopped"):
            server.subscribe("t")
        with pytest.raises(kps.ClientClosed):
            await client.publish("t", 1)

    asyncio.run(main())
    with kps.sync.Server("127.0.0.1:0") as server, kps.sync.Client(server.address) as client:
        with pytest.raises(kps.InvalidState):
            server.start()
        with pytest.raises(kps.InvalidState):
            server.on_upgrade(accept)
        with pytest.raises(kps.InvalidState):
            client.__enter__()
    with pytest.raises(kps.InvalidState, match="stopped"):
        server.publish("t", 1)


def test_a_subscription_with_a_callback_is_not_iterated_over() -> None:
    async def main() -> None:
        async with kps.Server("127.0.0.1:0") as server:
            subscription: Any = server.subscribe("t", print)
            with pytest.raises(kps.InvalidState, match="has a callback"):
                async for _ in subscription:
                    pass

    asyncio.run(main())
    with kps.sync.Server("127.0.0.1:0") as server:
        subscription: Any = server.subscribe("t", print)
        with pytest.raises(kps.InvalidState, match="has a callback"):
            iter(subscription)


def test_an_iterator_that_waits_too_long_raises_the_error_of_everything_else() -> None:
    async def main() -> None:
        async with kps.Server("127.0.0.1:0") as server:
            messages = server.subscribe("t", timeout=0.01)
            with pytest.raises(kps.RequestTimeout, match="no message on 't' for"):
                await anext(messages)
            await server.publish("t", 1)
            assert (await anext(messages)).data == 1
            with pytest.raises(kps.InvalidArgument):
                server.subscribe("t", timeout=-1)

    asyncio.run(main())
    with kps.sync.Server("127.0.0.1:0") as server:
        with pytest.raises(kps.RequestTimeout, match="no message on 't' for"):
            next(server.subscribe("t", timeout=0.01))


def test_a_server_that_could_not_start_may_be_started_again() -> None:
    async def main(address: str) -> None:
        async with kps.Server(address):
            server = kps.Server(address)
            with pytest.raises(kps.ServerStartFailed):
                await server.start()
        async with server:
            assert await server.publish("t", 1) == 0

    address = kept_address()
    with kps.sync.Server(address):
        server = kps.sync.Server(address)
        with pytest.raises(kps.ServerStartFailed):
            server.start()
        server.stop()
    with server:
        assert server.publish("t", 1) == 0
    asyncio.run(main(address))


def test_connect_of_a_client_that_exists_says_what_to_write() -> None:
    for client in (kps.Client("localhost:1"), kps.sync.Client("localhost:1")):
        with pytest.raises(kps.InvalidState, match=r"Client\.connect\(address\)"):
            client.connect()
