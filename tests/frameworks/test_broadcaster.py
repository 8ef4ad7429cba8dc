"""A backend of ``broadcaster``, within one process."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import kps

broadcaster = pytest.importorskip("broadcaster", reason="broadcaster is not installed")

from kps.broadcaster import KpsBackend  # noqa: E402
from tests.ports import kept_address  # noqa: E402

PATIENCE = 30.0


def run(test: Callable[[kps.Server], Awaitable[object]], **options: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE), kps.Server("127.0.0.1:0", **options) as server:
            await test(server)

    asyncio.run(main())


def process(server: kps.Server, **options: Any) -> Any:
    """What each process has."""
    backend = KpsBackend(server.address, **({"reconnect": 0.05} | options))
    return broadcaster.Broadcast(backend=backend)


@pytest.mark.parametrize("message", ["hello", "", "größer 🦉", {"n": [1, None]}, 7])
def test_what_is_published_comes_to_all_processes(message: object) -> None:
    async def test(server: kps.Server) -> None:
        seen = server.subscribe("room", timeout=PATIENCE)
        async with process(server) as one, process(server) as other:
            async with one.subscribe("room") as here, other.subscribe("room") as there:
                await one.publish("room", message)
                event = broadcaster.Event("room", message)
                assert [await here.get(), await there.get()] == [event, event]
        assert (await anext(seen)).data == message

    run(test)


def test_channels_are_apart_and_have_a_prefix() -> None:
    async def test(server: kps.Server) -> None:
        async with process(server, prefix="rooms/") as broadcast:
            async with broadcast.subscribe("tea") as tea, broadcast.subscribe("coffee") as coffee:
                await server.publish("rooms/coffee", "c")
                await server.publish("tea", "not here")
                await server.publish("rooms/tea", "t")
                assert (await coffee.get()).message == "c"
                event = await tea.get()
                assert (event.channel, event.message) == ("tea", "t")
            async with broadcast.subscribe("tea") as tea:
                await broadcast.publish("tea", "again")
                assert (await tea.get()).message == "again"

    run(test)


def test_it_survives_the_server() -> None:
    async def main() -> None:
        server = kps.Server(kept_address())
        await server.start()
        async with process(server) as broadcast, broadcast.subscribe("room") as room:
            await server.stop()
            while True:
                try:
                    await broadcast.publish("room", "lost")
                except kps.NotConnected:
                    break
                await asyncio.sleep(0.01)
            async with kps.Server(server.address) as again:
                while not await again.publish("room", "back"):
                    await asyncio.sleep(0.01)
                assert (await room.get()).message == "back"

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_errors_are_clear() -> None:
    async def test(server: kps.Server) -> None:
        broadcast = process(server, prefix="open/")
        with pytest.raises(kps.InvalidState, match="not started"):
            await broadcast.publish("room", "x")
        async with broadcast:
            with pytest.raises(kps.InvalidArgument):
                await broadcast.publish("\n", "x")
            with pytest.raises(kps.InvalidArgument):
                await broadcast.publish("room", b"bytes")
        backend = KpsBackend(server.address)
        await backend.connect()
        with pytest.raises(kps.ServerError) as caught:
            await backend.subscribe("closed")
        assert caught.value.code == "forbidden"
        await backend.disconnect()

    run(test, permissions=kps.Permissions(subscribe=("open/**",), publish=("**",)))


@pytest.mark.parametrize("options", [{"timeout": 0}, {"prefix": None}, {"unknown": 1}])
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(kps.InvalidArgument):
        KpsBackend("localhost", **options)


def test_a_server_that_is_not_there_is_told_in_time() -> None:
    async def main() -> None:
        async with kps.Server(kept_address()) as server:
            broadcast = process(server, timeout=0.2)
        with pytest.raises(kps.NotConnected, match="was not reached within"):
            await broadcast.connect()

    asyncio.run(main())


def test_what_broadcaster_makes_of_the_end_and_of_refusals() -> None:
    """As the page about it says."""

    async def test(server: kps.Server) -> None:
        broadcast = process(server, id="one")
        await broadcast.connect()
        with pytest.raises(KeyError) as caught:
            async with broadcast.subscribe("closed"):
                pass
        assert isinstance(caught.value.__context__, kps.ServerError)
        await server.disconnect("one")
        await asyncio.wait([broadcast._listener_task])
        with pytest.raises(kps.ConnectionLost):
            await broadcast.disconnect()
        async with broadcast, broadcast.subscribe("open/x") as again:
            await broadcast.publish("open/x", "hello")
            assert (await again.get()).message == "hello"

    run(test, permissions=kps.Permissions(subscribe=("open/**",), publish=("**",)))
