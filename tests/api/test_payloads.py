"""Payloads, topics and ids that cannot be sent are refused at once, everywhere."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import kps
import kps.sync

NAN = float("nan")

WITH_DATA: list[Callable[[Any, Any], Any]] = [
    lambda it, data: it.publish("t", data),
    lambda it, data: it.publish_to_id("a", data),
    lambda it, data: it.publish_to_server("localhost:1", data),
    lambda it, data: it.publish_with_ack("t", data),
    lambda it, data: it.publish_to_id_with_ack("a", data),
]
OF_CLIENT: list[Callable[[Any, Any], Any]] = [
    *WITH_DATA,
    lambda client, data: client.publish_with_receipt("t", data),
]


@pytest.mark.parametrize("data", [NAN, [float("inf")], {"a": {1, 2}}, "\ud800", 1 << 64, {1: 2}])
def test_payloads_that_are_not_json(data: Any) -> None:
    with kps.sync.Server("127.0.0.1:0") as server:
        for level in (1, 2):
            with kps.sync.Client(server.address, level=level) as client:
                for call in OF_CLIENT:
                    with pytest.raises(kps.InvalidArgument):
                        call(client, data)
                client.flush()
        for call in WITH_DATA:
            with pytest.raises(kps.InvalidArgument):
                call(server, data)

    async def main() -> None:
        async with kps.Server("127.0.0.1:0") as server, kps.Client(server.address) as client:
            for call, target in [
                *((call, client) for call in OF_CLIENT),
                *((call, server) for call in WITH_DATA),
            ]:
                with pytest.raises(kps.InvalidArgument):
                    await call(target, data)
            await client.flush()

    asyncio.run(main())


def test_results_that_are_not_json() -> None:
    with kps.sync.Server("127.0.0.1:0") as server, kps.sync.Client(server.address) as client:
        client.subscribe("t", lambda message: NAN)
        server.subscribe("t", lambda message: [NAN])
        for publisher in (client, server):
            for response in publisher.publish_with_ack("t", 1).wait().values():
                assert not response.success
                assert "not a number" in (response.error or "")


NAMES = ["", None, 5, b"t", ["t"], "a\nb", "\x00", "\x9f", "\ud800", "a" * 65_537]
WITH_TOPIC: list[Callable[[Any, Any], Any]] = [
    lambda it, topic: it.publish(topic, 1),
    lambda it, topic: it.publish_with_ack(topic, 1),
    lambda it, topic: it.subscribe(topic),
]
WITH_ID: list[Callable[[Any, Any], Any]] = [
    lambda it, name: it.publish_to_id(name, 1),
    lambda it, name: it.publish_to_id_with_ack(name, 1),
]
TIMEOUTS = [0, -1, float("nan"), float("inf"), 1e300, 10**5000, True, "5", None]
WITH_TIMEOUT: list[Callable[[Any, Any], Any]] = [
    lambda it, seconds: it.publish_with_ack("t", 1, timeout=seconds),
    lambda it, seconds: it.publish_to_id_with_ack("a", 1, timeout=seconds),
]

HEADERS = ["text", 5, True, ["a"], [("a", "b")], {"a": 1}, {"a": None}, {1: "a"}, {"a": "\ud800"}]
WITH_HEADERS: list[Callable[[Any, Any], Any]] = [
    lambda it, headers: it.publish("t", 1, headers=headers),
    lambda it, headers: it.publish_to_id("a", 1, headers=headers),
    lambda it, headers: it.publish_with_ack("t", 1, headers=headers),
    lambda it, headers: it.publish_to_id_with_ack("a", 1, headers=headers),
    lambda it, headers: it.request("t", 1, headers=headers),
    lambda it, headers: it.request_to_id("a", 1, headers=headers),
]


async def refused(call: Callable[[Any, Any], Any], target: Any, argument: Any) -> None:
    with pytest.raises(kps.InvalidArgument):
        result = call(target, argument)
        if isinstance(result, Awaitable):
            await result


@pytest.mark.parametrize("level", [1, 2])
def test_names_timeouts_and_headers_that_cannot_be_sent(level: int) -> None:
    async def main() -> None:
        async with kps.Server("127.0.0.1:0") as server:
            async with kps.Client(server.address, level=level, offline_queue=5) as client:
                for name in NAMES:
                    for call in WITH_TOPIC:
                        await refused(call, client, name)
                        await refused(call, server, name)
                    for call in WITH_ID:
                        await refused(call, client, name)
                        await refused(call, server, name)
                    await refused(lambda it, n: it.publish_with_receipt(n, 1), client, name)
                for name in (name for name in NAMES if name != "a" * 65_537):
                    await refused(lambda it, n: it.publish_to_server(n, 1), client, name)
                    await refused(lambda it, n: it.publish_to_server(n, 1), server, name)
                for seconds in TIMEOUTS:
                    for call in WITH_TIMEOUT:
                        await refused(call, client, seconds)
                        await refused(call, server, seconds)
                    if seconds not in (0, None):
                        await refused(lambda it, s: it.stop(grace=s), server, seconds)
                    if seconds is not None:
                        await refused(lambda it, s: it.subscribe("t", timeout=s), client, seconds)
                await refused(lambda it, s: it.publish_to_server("a:1", 1, s), client, "no")
                await refused(lambda it, s: it.publish_to_server("a:1", 1, s), server, "no")
                for headers in HEADERS:
                    for call in WITH_HEADERS:
                        await refused(call, client, headers)
                        await refused(call, server, headers)
                    await refused(
                        lambda it, h: it.publish_with_receipt("t", 1, headers=h), client, headers
                    )
                await client.flush()

    asyncio.run(main())


def test_names_that_cannot_be_sent_in_threads() -> None:
    with kps.sync.Server("127.0.0.1:0") as server, kps.sync.Client(server.address) as client:
        for target in (server, client):
            for name in NAMES:
                for call in (*WITH_TOPIC, *WITH_ID):
                    with pytest.raises(kps.InvalidArgument):
                        call(target, name)
            for seconds in TIMEOUTS:
                for call in WITH_TIMEOUT:
                    with pytest.raises(kps.InvalidArgument):
                        call(target, seconds)
            for headers in HEADERS:
                for call in WITH_HEADERS:
                    with pytest.raises(kps.InvalidArgument):
                        call(target, headers)
        client.flush()


NUMBERS: list[Any] = [None, "1", 1.5, True, 0, -1, 1 << 60, [1]]
PLACES: list[Any] = [5, "e", ("e", 1), kps.Position("e", -1), kps.Position(5, 1)]  # type: ignore[arg-type]
NO_TEXTS: list[Any] = [None, 5, 1.5, b"a", ["a"]]


def test_numbers_and_places_that_make_no_sense() -> None:
    history = [kps.History("t", size=5)]
    with kps.sync.Server("127.0.0.1:0", history=history) as server:
        with kps.sync.Client(server.address) as client:
            server.publish("t", 1)
            for target in (server, client):
                for number in NUMBERS:
                    with pytest.raises(kps.InvalidArgument, match="concurrency is"):
                        target.subscribe("t", print, group="g", concurrency=number)
                    with pytest.raises(kps.InvalidArgument, match="limit is"):
                        target.history("t", limit=number)
                for place in PLACES:
                    with pytest.raises(kps.InvalidArgument, match=r"since is a kps\.Position"):
                        target.history("t", since=place)
            for text in NO_TEXTS:
                with pytest.raises(kps.InvalidArgument, match="an id is a text"):
                    server.disconnect(text)
                with pytest.raises(kps.InvalidArgument, match="a topic is a text"):
                    server.count_subscribers(text)
                with pytest.raises(kps.InvalidArgument, match="a topic is a text"):
                    server.presence(text)
            client.flush()


def test_longer_names_may_be_allowed() -> None:
    limits = kps.ServerLimits(max_topic=1000, max_id=1000)
    with kps.sync.Server("127.0.0.1:0", limits=limits) as server:
        with kps.sync.Client(server.address, id="i" * 1000) as client:
            messages = client.subscribe("t" * 1000)
            client.publish("t" * 1000, 1)
            assert next(messages).data == 1
            assert server.publish_to_id("i" * 1000, 1)
            with pytest.raises(kps.InvalidArgument, match="at most 1000"):
                server.publish("t" * 1001, 1)


@pytest.mark.parametrize("seconds", [1e9, 3e6])
def test_very_long_times_are_just_long(seconds: float) -> None:
    limits: dict[str, Any] = {"heartbeat_interval": seconds, "heartbeat_timeout": seconds}
    with kps.sync.Server("127.0.0.1:0", limits=kps.ServerLimits(**limits)) as server:
        client = kps.sync.Client(
            server.address,
            limits=kps.ClientLimits(**limits),
            connect_timeout=seconds,
            request_timeout=seconds,
        )
        with client:
            messages = client.subscribe("t", timeout=seconds)
            assert client.publish_with_ack("t", 1, timeout=seconds).id
            assert next(messages).data == 1

    async def main() -> None:
        async with kps.Server("127.0.0.1:0", limits=kps.ServerLimits(**limits)) as server:
            client = kps.Client(
                server.address,
                limits=kps.ClientLimits(**limits),
                connect_timeout=seconds,
                request_timeout=seconds,
            )
            async with client:
                messages = await client.subscribe("t", timeout=seconds)
                await client.publish_with_ack("t", 1, timeout=seconds)
                assert (await anext(messages)).data == 1

    asyncio.run(main())
