"""Channels: who gets a message, in which order, how often, and what a full one does."""

import asyncio
import inspect
from typing import Any

import pytest
from channels.exceptions import ChannelFull, MessageTooLarge

import kps.sync
from kps.channels import KpsChannelLayer
from tests.channels.harness import layers, on_loop, text, until

LOCAL = "local"
NORMAL = "normal"


async def channel_of(kind: str, layer: KpsChannelLayer) -> str:
    return await layer.new_channel() if kind == LOCAL else "test-channel.1"


@pytest.mark.parametrize("kind", [LOCAL, NORMAL])
class TestBothKinds:
    @on_loop
    async def test_sent_before_anybody_receives(self, server: kps.sync.Server, kind: str) -> None:
        async with layers(server) as [layer]:
            channel = await channel_of(kind, layer)
            for number in range(20):
                await layer.send(channel, text(number))
            assert [await layer.receive(channel) for _ in range(20)] == [*map(text, range(20))]

    @on_loop
    async def test_from_one_process_to_another(self, server: kps.sync.Server, kind: str) -> None:
        async with layers(server, 2) as [one, other]:
            channel = await channel_of(kind, one)
            receiving = asyncio.create_task(one.receive(channel))
            await asyncio.sleep(0)
            await one.group_add("g", await one.new_channel())  # so it is on the bus
            await other.send(channel, text(1))
            assert await receiving == text(1)

    @on_loop
    async def test_what_a_message_may_hold(self, server: kps.sync.Server, kind: str) -> None:
        message = {
            "type": "x",
            "bytes": b"\x00\xff",
            "deep": {"list": [b"a", {"b": bytearray(b"c")}], "tuple": (1, (2,))},
            "numbers": [-(2**63), 2**63 - 1, 1.5, True, None],
            "text": "häß \U0001f600 \0",
            "empty": [{}, [], "", b""],
        }
        async with layers(server) as [layer]:
            channel = await channel_of(kind, layer)
            await layer.send(channel, message)
            assert await layer.receive(channel) == {
                **message,
                "deep": {"list": [b"a", {"b": b"c"}], "tuple": [1, [2]]},
            }

    @on_loop
    async def test_as_it_was_when_it_was_sent(self, server: kps.sync.Server, kind: str) -> None:
        async with layers(server) as [layer]:
            channel = await channel_of(kind, layer)
            message: dict[str, Any] = {"type": "x", "list": [1]}
            await layer.send(channel, message)
            message["list"].append(2)
            assert await layer.receive(channel) == {"type": "x", "list": [1]}

    @on_loop
    async def test_a_megabyte(self, server: kps.sync.Server, kind: str) -> None:
        async with layers(server) as [layer]:
            channel = await channel_of(kind, layer)
            message = {"type": "x", "text": "x" * 1_000_000}
            await layer.send(channel, message)
            assert await layer.receive(channel) == message
            with pytest.raises(MessageTooLarge):
                await layer.send(channel, {"type": "x", "text": "x" * 1_100_000})

    @on_loop
    async def test_what_cannot_be_sent(self, server: kps.sync.Server, kind: str) -> None:
        async with layers(server) as [layer]:
            channel = await channel_of(kind, layer)
            for wrong in ({"x": object()}, {"x": float("nan")}, {"x": 2**70}):
                with pytest.raises(kps.InvalidArgument):
                    await layer.send(channel, wrong)
            with pytest.raises(TypeError):
                await layer.send(channel, "no dictionary")  # type: ignore[arg-type]
            await layer.send(channel, text(1))
            assert await layer.receive(channel) == text(1)

    @on_loop
    async def test_capacity(self, server: kps.sync.Server, kind: str) -> None:
        async with layers(server, 2, capacity=3) as [layer, sender]:
            channel, neighbour = await channel_of(kind, layer), await layer.new_channel()
            await layer.group_add("g", neighbour)
            for number in range(3):
                await sender.send(channel, text(number))
            with pytest.raises(ChannelFull):
                await sender.send(channel, text(3))
            await sender.send(neighbour, text(0))  # has a capacity of its own
            assert await layer.receive(channel) == text(0)
            await until_there_is_room(sender, channel, text(4))
            assert [await layer.receive(channel) for _ in range(3)] == [*map(text, (1, 2, 4))]

    @on_loop
    async def test_capacity_by_name(self, server: kps.sync.Server, kind: str) -> None:
        capacities = {"spec*": 1, "test-*": 1}
        async with layers(server, capacity=5, channel_capacity=capacities) as [layer]:
            channel = await channel_of(kind, layer)
            await layer.send(channel, text(1))
            with pytest.raises(ChannelFull):
                await layer.send(channel, text(2))
            other = await layer.new_channel("other") if kind == LOCAL else "other"
            for number in range(5):
                await layer.send(other, text(number))

    @on_loop
    async def test_each_message_goes_to_one_receiver(
        self, server: kps.sync.Server, kind: str
    ) -> None:
        async with layers(server) as [layer]:
            channel = await channel_of(kind, layer)
            receiving = [asyncio.create_task(layer.receive(channel)) for _ in range(10)]
            await asyncio.sleep(0)
            for number in range(10):
                await layer.send(channel, text(number))
            got = [message["number"] for message in await asyncio.gather(*receiving)]
            assert sorted(got) == list(range(10))

    @on_loop
    async def test_a_cancelled_receiver_loses_nothing(
        self, server: kps.sync.Server, kind: str
    ) -> None:
        async with layers(server) as [layer]:
            channel = await channel_of(kind, layer)
            got: list[dict[str, Any]] = []
            for number in range(30):
                first = asyncio.create_task(layer.receive(channel))
                second = asyncio.create_task(layer.receive(channel))
                await asyncio.sleep(0)
                await layer.send(channel, text(number))
                for _ in range(number % 5):
                    await asyncio.sleep(0)
                first.cancel()
                await asyncio.wait({first})
                if first.cancelled():
                    got.append(await second)
                else:
                    got.append(await first)
                    second.cancel()
                    await asyncio.wait({second})
                    assert second.cancelled()
            assert got == [*map(text, range(30))]

    @on_loop
    async def test_it_is_dropped_when_it_has_waited_too_long(
        self, server: kps.sync.Server, kind: str
    ) -> None:
        async with layers(server, expiry=0.1) as [layer]:
            channel = await channel_of(kind, layer)
            await layer.send(channel, text(1))
            await until(lambda: layer.counts.expired == 1)
            receiving = asyncio.create_task(layer.receive(channel))
            await asyncio.sleep(0)
            while not receiving.done():  # as this one may expire, too, on a slow machine
                await layer.send(channel, text(2))
                await asyncio.wait({receiving}, timeout=0.05)
            assert await receiving == text(2)


async def until_there_is_room(
    layer: KpsChannelLayer, channel: str, message: dict[str, Any]
) -> None:
    """Send a message as soon as the channel has room: a worker's taking is told to the sender."""
    while True:
        try:
            await layer.send(channel, message)
            return
        except ChannelFull:
            await asyncio.sleep(0.01)


@on_loop
async def test_names_of_new_channels(server: kps.sync.Server) -> None:
    async with layers(server, 2, prefix="p" * 30) as [layer, other]:
        names = {await each.new_channel() for each in (layer, layer, other)}
        assert len(names) == 3
        assert all(name.startswith("specific.") for name in names)
        for name in names:
            layer.require_valid_channel_name(name)
        assert (await layer.new_channel("mine")).startswith("mine.")
        with pytest.raises(kps.InvalidArgument):
            await layer.receive(await other.new_channel())


@pytest.mark.parametrize("name", ["", "a b", "ä", "a/b", "a!b!c", "x" * 100, 7, None, "a\n!"])
@on_loop
async def test_bad_names_are_refused(server: kps.sync.Server, name: Any) -> None:
    async with layers(server) as [layer]:
        with pytest.raises(TypeError):
            await layer.send(name, text(1))
        with pytest.raises(TypeError):
            await layer.receive(name)
        for call in (layer.group_add, layer.group_discard):
            with pytest.raises(TypeError):
                await call("group", name)
            with pytest.raises(TypeError):
                await call(name, "channel")
        with pytest.raises(TypeError):
            await layer.group_send(name, text(1))


@on_loop
async def test_to_a_process_that_is_gone(server: kps.sync.Server) -> None:
    async with layers(server, 2) as [layer, other]:
        channel = await other.new_channel()
        await other.group_add("g", channel)
        await other.close()
        await layer.send(channel, text(1))
        assert layer.counts.nobody == 1


def test_what_channels_looks_for() -> None:
    layer = KpsChannelLayer("localhost:1")
    assert layer.extensions == ["groups", "flush"]
    assert (layer.expiry, layer.group_expiry, layer.capacity) == (60, 86_400, 100)
    for name in ("send", "receive", "new_channel", "flush", "close"):
        assert inspect.iscoroutinefunction(getattr(layer, name))
    for name in ("group_add", "group_discard", "group_send"):
        assert inspect.iscoroutinefunction(getattr(layer, name))


@pytest.mark.parametrize(
    "config",
    [{"address": "nowhere:x"}, {"capacity": 0}, {"channel_capacity": {"a": -1}}, {"expiry": 0},
     {"group_expiry": -1}, {"timeout": "5"}, {"prefix": "a/b"}, {"prefix": "p" * 31},
     {"token": 5}],
)  # fmt: skip
def test_bad_options_are_refused_at_once(config: dict[str, Any]) -> None:
    with pytest.raises(kps.InvalidArgument):
        KpsChannelLayer(**config)
