"""``group_members``: who is in a group, over all processes."""

from typing import Any

import pytest

import kps.sync
from kps.channels import KpsChannelLayer
from tests.channels.harness import layers, on_loop, until


@on_loop
async def test_the_members_of_all_processes(server: kps.sync.Server) -> None:
    async with layers(server, 3) as [one, other, asker]:
        ann, bob = await one.new_channel(), await other.new_channel()
        await one.group_add("red", ann, {"user": "ann"})
        await other.group_add("red", bob)
        await other.group_add("blue", bob, b"\x00")
        for layer in (one, other, asker):
            assert await layer.group_members("red") == {ann: {"user": "ann"}, bob: None}
        assert await asker.group_members("blue") == {bob: b"\x00"}
        assert await asker.group_members("green") == {}
        await one.group_add("red", ann, "Ann")
        assert await asker.group_members("red") == {ann: "Ann", bob: None}
        await one.group_discard("red", ann)
        assert await asker.group_members("red") == {bob: None}
        await other.close()  # without discarding
        assert await asker.group_members("red") == {}


@on_loop
async def test_a_channel_that_another_process_has_added(server: kps.sync.Server) -> None:
    async with layers(server, 2) as [owner, other]:
        channel = await owner.new_channel()
        assert await owner.group_members("red") == {}  # so it is on the bus
        await other.group_add("red", channel, {"user": "ann"})
        await other.group_add("red", "tasks", "workers")
        assert await owner.group_members("red") == {channel: {"user": "ann"}, "tasks": "workers"}


@on_loop
async def test_members_whose_time_is_over(server: kps.sync.Server) -> None:
    async with layers(server, group_expiry=0.01, expiry=0.1) as [layer]:
        await layer.group_add("red", await layer.new_channel(), "ann")
        while await layer.group_members("red"):
            pass  # until a sweep


@on_loop
async def test_flush_forgets_them(server: kps.sync.Server) -> None:
    async with layers(server, 2) as [one, other]:
        await one.group_add("red", await one.new_channel(), "ann")
        await other.flush()
        assert await other.group_members("red") == {}


@pytest.mark.parametrize("info", [float("nan"), object(), {"$base64": "AA=="}])
def test_what_cannot_be_told(info: Any) -> None:
    @on_loop
    async def test() -> None:
        layer = KpsChannelLayer("127.0.0.1:1")
        with pytest.raises(kps.InvalidArgument):
            await layer.group_add("red", await layer.new_channel(), info)
        await layer.close()

    test()


@on_loop
async def test_what_others_ask(server: kps.sync.Server) -> None:
    """Another program can ask; what is no question is counted."""
    async with layers(server) as [layer]:
        channel = await layer.new_channel()
        await layer.group_add("red", channel, "ann")
        await until(lambda: server.count_subscribers("channels/members")[1] == 1)
        async with kps.Client(server.address) as client:
            assert await client.request("channels/members", {"group": "red"}) == {channel: "ann"}
            assert await client.request("channels/members", "red") == {}
        assert layer.counts.invalid == 1
