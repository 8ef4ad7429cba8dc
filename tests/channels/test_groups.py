"""Groups: who is in them, and what a member gets."""

import asyncio
import threading

import pytest
from channels.exceptions import MessageTooLarge

import kps.sync
from kps.channels import KpsChannelLayer
from tests.channels.harness import layers, on_loop, text, until


async def members(layer: KpsChannelLayer, count: int, group: str = "group") -> list[str]:
    channels = [await layer.new_channel() for _ in range(count)]
    for channel in channels:
        await layer.group_add(group, channel)
    return channels


@on_loop
async def test_all_members_in_all_processes_and_nobody_else(server: kps.sync.Server) -> None:
    async with layers(server, 3) as [one, two, sender]:
        there = [(one, channel) for channel in await members(one, 2)]
        there += [(two, channel) for channel in await members(two, 2)]
        outside = await members(one, 1, "group2")
        await one.group_discard("group", there[1][1])
        await sender.group_send("group", text(1))
        await sender.group_send("group2", text(2))
        for layer, channel in (there[0], there[2], there[3]):
            assert await layer.receive(channel) == text(1)
        assert await one.receive(outside[0]) == text(2)
        await sender.send(there[1][1], text(3))
        assert await one.receive(there[1][1]) == text(3)


@on_loop
async def test_a_group_without_members(server: kps.sync.Server) -> None:
    async with layers(server) as [layer]:
        await layer.group_send("group", text(1))
        await layer.group_discard("group", await layer.new_channel())
        [channel] = await members(layer, 1)
        await layer.group_send("group", text(2))
        assert await layer.receive(channel) == text(2)


@on_loop
async def test_added_twice_is_added_once(server: kps.sync.Server) -> None:
    async with layers(server) as [layer]:
        [channel] = await members(layer, 1)
        await layer.group_add("group", channel)
        await layer.group_send("group", text(1))
        await layer.group_send("group", text(2))
        assert [await layer.receive(channel) for _ in range(2)] == [text(1), text(2)]
        await layer.group_discard("group", channel)
        await layer.group_send("group", text(3))
        await layer.send(channel, text(4))
        assert await layer.receive(channel) == text(4)


@on_loop
async def test_added_and_removed_all_the_time(server: kps.sync.Server) -> None:
    """The subscription of the process comes and goes with its members."""
    async with layers(server) as [layer]:
        channel = await layer.new_channel()
        for number in range(30):
            await layer.group_add("group", channel)
            await layer.group_send("group", text(number))
            assert await layer.receive(channel) == text(number)
            await layer.group_discard("group", channel)
        await until(lambda: server.count_subscribers("channels/group/group") == (0, 0, 0))


@on_loop
async def test_added_by_many_at_once(server: kps.sync.Server) -> None:
    async with layers(server) as [layer]:
        channels = [await layer.new_channel() for _ in range(50)]
        await asyncio.gather(*(layer.group_add("group", channel) for channel in channels))
        await layer.group_send("group", text(1))
        for channel in channels:
            assert await layer.receive(channel) == text(1)


@on_loop
async def test_one_that_is_cancelled_takes_nothing_from_another() -> None:
    """Both wait for the same subscription."""
    is_asked, may_come = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def on_subscribe(asked: kps.Subscribing) -> None:
        if asked.topic == "channels/group/group":
            loop.call_soon_threadsafe(is_asked.set)
            may_come.wait()

    with kps.sync.Server("127.0.0.1:0", on_subscribe=on_subscribe) as server:
        async with layers(server) as [layer]:
            channels = [await layer.new_channel() for _ in range(2)]
            adding = [asyncio.create_task(layer.group_add("group", one)) for one in channels]
            await is_asked.wait()
            adding[1].cancel()
            await asyncio.wait({adding[1]})
            may_come.set()
            await adding[0]
            await layer.group_send("group", text(1))
            assert await layer.receive(channels[0]) == text(1)


@on_loop
async def test_hundreds_of_members_lose_nothing(server: kps.sync.Server) -> None:
    async with layers(server, 2) as [one, other]:
        there = [(one, channel) for channel in await members(one, 200)]
        there += [(other, channel) for channel in await members(other, 200)]
        for number in range(50):
            await one.group_send("group", text(number))
        for layer, channel in there:
            got = [await layer.receive(channel) for _ in range(50)]
            assert got == [*map(text, range(50))]
        assert one.counts.full == other.counts.full == 0


@on_loop
async def test_a_full_member_harms_nobody(server: kps.sync.Server) -> None:
    async with layers(server, capacity=2) as [layer]:
        full, reading = await members(layer, 2)
        for number in range(5):
            await layer.group_send("group", text(number))
            assert await layer.receive(reading) == text(number)
        assert [await layer.receive(full) for _ in range(2)] == [text(0), text(1)]
        await until(lambda: layer.counts.full == 3)


@on_loop
async def test_each_member_gets_a_copy(server: kps.sync.Server) -> None:
    async with layers(server) as [layer]:
        one, other = await members(layer, 2)
        await layer.group_send("group", {"type": "x", "list": [b"1"]})
        (await layer.receive(one))["list"].append(2)
        assert await layer.receive(other) == {"type": "x", "list": [b"1"]}


@on_loop
async def test_projects_with_other_prefixes_are_apart(server: kps.sync.Server) -> None:
    async with layers(server) as [layer], layers(server, prefix="other") as [other]:
        [here], [there] = await members(layer, 1), await members(other, 1)
        await layer.group_send("group", text(1))
        await other.group_send("group", text(2))
        assert await layer.receive(here) == text(1)
        assert await other.receive(there) == text(2)


@on_loop
async def test_a_channel_of_another_process(server: kps.sync.Server) -> None:
    async with layers(server, 2) as [layer, other]:
        channel = await other.new_channel()
        await other.group_add("elsewhere", channel)  # so it is on the bus
        await layer.group_add("group", channel)
        await layer.group_send("group", text(1))
        assert await other.receive(channel) == text(1)
        await layer.group_discard("group", channel)
        await layer.group_send("group", text(2))
        await layer.send(channel, text(3))
        assert await other.receive(channel) == text(3)


@on_loop
async def test_a_normal_channel_gets_it_once(server: kps.sync.Server) -> None:
    """Whoever has added it."""
    async with layers(server, 3) as [one, other, worker]:
        await one.group_add("group", "tasks")
        await other.group_add("group", "tasks")
        for number in range(10):
            await one.group_send("group", text(number))
        got = [(await worker.receive("tasks"))["number"] for _ in range(10)]
        assert sorted(got) == list(range(10))
        await one.group_discard("group", "tasks")
        await other.group_discard("group", "tasks")
        await one.group_send("group", text(10))
        await one.send("tasks", text(11))
        assert await worker.receive("tasks") == text(11)


@on_loop
async def test_membership_ends_by_itself(server: kps.sync.Server) -> None:
    async with layers(server, group_expiry=0.2, expiry=0.2) as [layer]:
        await members(layer, 3)
        await until(lambda: server.count_subscribers("channels/group/group") == (0, 0, 0))


@on_loop
async def test_what_is_too_large(server: kps.sync.Server) -> None:
    async with layers(server) as [layer]:
        with pytest.raises(MessageTooLarge):
            await layer.group_send("group", {"type": "x", "bytes": bytes(1_000_000)})


@on_loop
async def test_what_is_no_message_is_counted(server: kps.sync.Server) -> None:
    async with layers(server) as [layer]:
        [channel] = await members(layer, 1)
        server.publish("channels/group/group", "no dictionary")
        server.publish("channels/group/group", {"bytes": {"$base64": "?"}})
        server.publish("channels/group/group", {"type": "from.elsewhere"})
        assert await layer.receive(channel) == {"type": "from.elsewhere"}
        assert layer.counts.invalid == 2


@on_loop
async def test_flush_reaches_all_processes(server: kps.sync.Server) -> None:
    async with layers(server, 2) as [layer, other]:
        [here], [there] = await members(layer, 1), await members(other, 1)
        await until(lambda: server.count_subscribers("channels/flush")[1] == 2)
        await layer.group_send("group", text(1))
        await other.send("tasks", text(1))
        await layer.flush()
        assert server.count_subscribers("channels/group/group") == (0, 0, 0)
        for each, channel in ((layer, here), (other, there), (layer, "tasks")):
            await layer.send(channel, text(2))
            assert await each.receive(channel) == text(2)
