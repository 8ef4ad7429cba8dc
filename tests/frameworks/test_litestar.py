"""Litestar's channels over KPS, within one process."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

import kps

litestar_channels = pytest.importorskip("litestar.channels", reason="Litestar is not installed")

from kps.litestar import KpsChannelsBackend  # noqa: E402
from tests.ports import kept_address  # noqa: E402

PATIENCE = 30.0


def run(test: Callable[[kps.Server], Awaitable[object]], **options: Any) -> None:
    """Run a test with a server that keeps history of some topics."""

    async def main() -> None:
        history = [kps.History("kept/**", size=5)]
        async with asyncio.timeout(PATIENCE):
            async with kps.Server("127.0.0.1:0", history=history, **options) as server:
                await test(server)

    asyncio.run(main())


async def take(backend: KpsChannelsBackend, count: int) -> list[tuple[str, bytes]]:
    events: list[tuple[str, bytes]] = []
    stream = backend.stream_events()
    while len(events) < count:
        events.append(await anext(stream))
    await stream.aclose()
    return events


class Started:
    """Some backends, each as that of one process."""

    def __init__(self, server: kps.Server, count: int, **options: Any) -> None:
        options = {"reconnect": 0.05} | options
        self.backends = [KpsChannelsBackend(server.address, **options) for _ in range(count)]

    async def __aenter__(self) -> list[KpsChannelsBackend]:
        for backend in self.backends:
            await backend.on_startup()
        return self.backends

    async def __aexit__(self, *_: object) -> None:
        for backend in self.backends:
            await backend.on_shutdown()


@pytest.mark.parametrize(
    "data", [b"", b"text", "größer 🦉".encode(), b'{"a":  1.0}', b"\xff\x00", b'"quoted"', b"null"]
)
def test_what_is_published_comes_to_all_as_it_was(data: bytes) -> None:
    async def test(server: kps.Server) -> None:
        async with Started(server, 3) as (one, other, third):
            await other.subscribe(["news"])
            await third.subscribe(["news", "more"])
            await one.publish(data, ["news", "more", "unheard"])
            assert await take(other, 1) == [("news", data)]
            assert sorted(await take(third, 2)) == [("more", data), ("news", data)]

    run(test)


def test_other_programs_see_texts_or_values() -> None:
    async def test(server: kps.Server) -> None:
        seen = server.subscribe("news", timeout=PATIENCE)
        async with Started(server, 1) as (texts,), Started(server, 1, as_json=True) as (values,):
            await texts.subscribe(["news"])
            await values.subscribe(["news"])
            await texts.publish(b'{"n":1}', ["news"])
            assert (await anext(seen)).data == '{"n":1}'
            assert await take(texts, 1) == [("news", b'{"n":1}')]
            assert [json.loads(data) for _, data in await take(values, 1)] == ['{"n":1}']
            await values.publish(b'{"n": 2}', ["news"])
            assert (await anext(seen)).data == {"n": 2}
            for backend in (texts, values):
                assert await take(backend, 1) == [("news", b'{"n":2}')]
            await server.publish("news", {"$base64": "no base64"})
            assert await take(texts, 1) == [("news", b'{"$base64":"no base64"}')]

    run(test)


def test_unsubscribed_channels_are_silent() -> None:
    async def test(server: kps.Server) -> None:
        async with Started(server, 1) as (backend,):
            await backend.subscribe(["a", "b"])
            await backend.publish(b"1", ["a"])
            await backend._feed.client.flush()
            await backend.unsubscribe(["a", "never"])
            await backend.publish(b"2", ["a", "b"])
            assert await take(backend, 1) == [("b", b"2")]
            await backend.subscribe(["a", "a"])
            await backend.publish(b"3", ["a"])
            assert await take(backend, 1) == [("a", b"3")]

    run(test)


def test_history_is_that_of_the_server() -> None:
    async def test(server: kps.Server) -> None:
        async with Started(server, 1, prefix="kept/") as (backend,):
            for number in range(7):
                await backend.publish(b"%d" % number, ["x"])
            await backend._feed.client.flush()
            assert await backend.get_history("x") == [b"2", b"3", b"4", b"5", b"6"]
            assert await backend.get_history("x", 2) == [b"5", b"6"]
            assert await backend.get_history("y") == []
        async with Started(server, 1) as (backend,):
            assert await backend.get_history("not kept", 3) == []

    run(test)


def test_a_prefix_confines_the_channels() -> None:
    async def test(server: kps.Server) -> None:
        async with Started(server, 1, prefix="site/") as (backend,):
            await backend.subscribe(["__kps/stats", "a"])
            await backend.publish(b"x", ["a"])
            assert await take(backend, 1) == [("a", b"x")]
            topics = set(backend._feed._subscriptions)
            assert topics == {"site/__kps/stats", "site/a"}

    run(test)


def test_a_refused_channel_is_told_and_others_are_there() -> None:
    permissions = kps.Permissions(subscribe=("open/**",), publish=("**",))

    async def test(server: kps.Server) -> None:
        async with Started(server, 1) as (backend,):
            with pytest.raises(kps.ServerError) as caught:
                await backend.subscribe(["closed/x", "open/x"])
            assert caught.value.code == "forbidden"
            await backend.publish(b"x", ["closed/x", "open/x"])
            assert await take(backend, 1) == [("open/x", b"x")]

    run(test, permissions=permissions)


def test_all_who_want_a_refused_channel_are_told() -> None:
    async def test(server: kps.Server) -> None:
        async with Started(server, 1) as (backend,):
            both = [backend.subscribe(["closed/x"]) for _ in range(2)]
            refusals = await asyncio.gather(*both, return_exceptions=True)
            assert [type(refusal) for refusal in refusals] == [kps.ServerError] * 2

    run(test, permissions=kps.Permissions(subscribe=("open/**",), publish=("**",)))


def test_what_cannot_be_sent_is_dropped_and_told(caplog: pytest.LogCaptureFixture) -> None:
    """The task by which Litestar publishes would end with an exception."""

    async def test(server: kps.Server) -> None:
        plugin = litestar_channels.ChannelsPlugin(
            backend := KpsChannelsBackend(server.address), arbitrary_channels_allowed=True
        )
        async with plugin, plugin.start_subscription("news") as subscriber:
            plugin.publish(b"x" * 2_000_000, "news")
            plugin.publish(b"x", ["\n", "news"])
            async for event in subscriber.iter_events():
                assert event == b"x"
                break
            assert backend.dropped == 2

    with caplog.at_level(logging.ERROR, "kps"):
        run(test)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert all("was dropped: " in line for line in lines)


def test_json_is_checked(caplog: pytest.LogCaptureFixture) -> None:
    async def test(server: kps.Server) -> None:
        async with Started(server, 1, as_json=True) as (backend,):
            await backend.publish(b"{not json", ["news"])
            assert backend.dropped == 1

    run(test)
    assert "it is not JSON" in caplog.text


def test_it_survives_the_server() -> None:
    async def main() -> None:
        server = kps.Server(kept_address())
        await server.start()
        async with Started(server, 2, offline_queue=2) as (one, other):
            await other.subscribe(["news"])
            await server.stop()
            while one._feed.client.is_connected or other._feed.client.is_connected:
                await asyncio.sleep(0.01)
            await other.subscribe(["later"])
            await one.publish(b"1", ["news", "later", "unheard"])
            assert one.dropped == 1  # the queue is full
            async with kps.Server(server.address) as again:
                while len(again.clients()) < 2 or not other._feed.client.is_connected:
                    await asyncio.sleep(0.01)
                await other._feed.client.flush()
                await one.publish(b"2", ["news", "later"])
                events = await take(other, 2)
                while not {("news", b"2"), ("later", b"2")} <= set(events):
                    events += await take(other, 1)
                assert {data for _, data in events} <= {b"1", b"2"}

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_a_server_that_is_not_there_is_told_in_time() -> None:
    async def main() -> None:
        address = kept_address()
        backend = KpsChannelsBackend(address, timeout=0.2, reconnect=0.05)
        with pytest.raises(kps.NotConnected, match=f"{address} was not reached within 0.2 s"):
            await backend.on_startup()
        with pytest.raises(kps.InvalidState, match="not started"):
            await backend.publish(b"x", ["news"])
        async with kps.Server(address):  # it can start later
            while True:  # as a machine that stands still takes longer than its timeout
                with contextlib.suppress(kps.NotConnected):
                    await backend.on_startup()
                    break
            await backend.on_shutdown()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_it_may_start_without_the_server() -> None:
    async def main() -> None:
        address = kept_address()
        backend = KpsChannelsBackend(address, wait=False, reconnect=0.05)
        await backend.on_startup()
        await backend.subscribe(["news"])
        await backend.publish(b"1", ["news"])
        async with kps.Server(address):
            assert await take(backend, 1) == [("news", b"1")]
            await backend.on_shutdown()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_the_end_of_the_client_ends_the_stream() -> None:
    async def test(server: kps.Server) -> None:
        async with Started(server, 1, id="litestar") as (backend,):
            waiting = asyncio.ensure_future(take(backend, 1))
            await asyncio.sleep(0)
            await server.disconnect("litestar")
            with pytest.raises(kps.ConnectionLost):
                await waiting
            with pytest.raises(kps.ConnectionLost):
                await take(backend, 1)
            await backend.on_startup()
            await backend.subscribe(["news"])
            await backend.publish(b"x", ["news"])
            assert await take(backend, 1) == [("news", b"x")]

    run(test)


def test_a_reader_that_is_too_slow_loses_by_the_policy_of_the_limits() -> None:
    async def test(server: kps.Server) -> None:
        limits = kps.ClientLimits(mailbox_messages=10, mailbox_patience=0.1)
        async with Started(server, 1, limits=limits) as (backend,):
            await backend.subscribe(["news"])
            subscription = backend._feed._subscriptions["news"]
            sent = 0
            while not subscription.dropped:
                await server.publish("news", str(sent))
                sent += 1
                await asyncio.sleep(0)
            events = [data for _, data in await take(backend, 5)]
            assert events == [b"0", b"1", b"2", b"3", b"4"]  # those that came last are lost

    run(test)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"prefix": None},
        {"as_json": 1},
        {"on_close": print},
        {"reconnect": 0},
        {"unknown": 1},
    ],
)
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(kps.InvalidArgument):
        KpsChannelsBackend("localhost", **cast("Any", options))


def test_it_starts_once_at_a_time_and_again() -> None:
    async def test(server: kps.Server) -> None:
        async with Started(server, 1) as (backend,):
            await backend.subscribe(["news"])
            with pytest.raises(kps.InvalidState, match="started already"):
                await backend.on_startup()
            await backend.on_shutdown()
            await backend.on_shutdown()
            await backend.on_startup()
            await backend.publish(b"x", ["news"])  # which it has no more
            await backend.subscribe(["more"])
            await backend.publish(b"y", ["more"])
            assert await take(backend, 1) == [("more", b"y")]

    run(test)
