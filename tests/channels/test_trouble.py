"""What a Django project learns of a bus that refuses, hangs or has lost something."""

import asyncio
import re

import pytest

import kps.sync
from kps.channels import KpsChannelLayer, bus
from kps.protocol.access.identity import Identity, Permissions
from tests.channels.harness import layers, on_loop, text, until
from tests.io.harness import Cable


@on_loop
async def test_it_tries_again_when_it_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody starts a web server again because the bus had a wrong file of tokens for a while."""
    monkeypatch.setattr(bus, "_PAUSE", 0.05)
    accepted: set[str] = set()
    with kps.sync.Server(
        "127.0.0.1:0", auth=lambda token: Identity("django") if token in accepted else None
    ) as server:
        async with layers(server, token="ours") as [layer]:
            with pytest.raises(kps.ConnectFailed, match="wants another token"):
                await layer.group_send("red", text(1))
            accepted.add("ours")
            await until_it_goes(layer)
            channel = await layer.new_channel()
            await layer.group_add("red", channel)
            await layer.group_send("red", text(2))
            assert await layer.receive(channel) == text(2)


async def until_it_goes(layer: KpsChannelLayer) -> None:
    while True:
        try:
            return await layer.group_send("red", text(1))
        except (kps.NotConnected, kps.RequestTimeout, kps.ConnectFailed):
            await asyncio.sleep(0.01)


@on_loop
async def test_between_two_attempts_the_server_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bus, "_PAUSE", 3600.0)
    asked: list[str] = []
    with kps.sync.Server("127.0.0.1:0", auth=lambda token: asked.append(token)) as server:
        async with layers(server, token="wrong") as [layer]:
            for _ in range(3):
                with pytest.raises(kps.ConnectFailed):
                    await layer.group_send("red", text(1))
        assert asked == ["wrong"]


@on_loop
async def test_it_begins_anew_after_the_server_has_ended_it(
    server: kps.sync.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus, "_PAUSE", 3600.0)
    async with layers(server) as [layer]:
        channel = await layer.new_channel()
        await layer.group_add("red", channel)
        [client] = server.clients()
        server.disconnect(client.id)
        with pytest.raises(kps.ClientClosed):
            await layer.receive(channel)  # so its consumer ends, and its browser comes again
        monkeypatch.setattr(bus, "_PAUSE", 0.0)
        await until_it_goes(layer)
        assert await layer.new_channel() != channel
        assert await layer.group_members("red") == {}


def test_an_empty_token_is_refused_at_once() -> None:
    """As from a variable of the environment that is not set."""
    with pytest.raises(kps.InvalidArgument, match="a token is a text that is not empty"):
        KpsChannelLayer(token="")


@on_loop
async def test_the_latest_reason_is_told() -> None:
    with kps.sync.Server("127.0.0.1:0", auth=lambda token: None) as server:
        async with layers(server, token=lambda: "wrong", timeout=0.3) as [layer]:
            reason = "could not be reached for 0.3 s: the server wants another token"
            told = ""
            while reason not in told:  # the first refusal may need longer
                with pytest.raises(kps.NotConnected) as caught:
                    await layer.group_send("red", text(1))
                told = str(caught.value)


@on_loop
async def test_a_confirmed_message_was_passed_on() -> None:
    mute = Permissions(publish=["channels/members"])
    with kps.sync.Server("127.0.0.1:0", auth=lambda token: Identity("django", mute)) as server:
        async with layers(server, token="x", confirm=True) as [layer]:
            with pytest.raises(kps.ServerError, match="may not publish"):
                await layer.group_send("red", text(1))
        async with layers(server, token="x") as [layer]:
            await layer.group_send("red", text(1))  # only the log tells


@on_loop
async def test_a_server_that_hangs(server: kps.sync.Server) -> None:
    """It says so, and not that a channel is full: code drops messages for that."""
    cable = Cable(server.address)
    layer = KpsChannelLayer(cable.address, timeout=0.5, confirm=True)
    try:
        async with layers(server) as [other]:
            channel = await other.new_channel()
            await other.group_add("red", channel)
            await until_it_goes(layer)
            assert await other.receive(channel) == text(1)
            cable.stalled = True
            with pytest.raises(kps.RequestTimeout, match=re.escape(channel)):
                await layer.send(channel, text(1))
            with pytest.raises(kps.RequestTimeout, match="channels/group/red"):
                await layer.group_send("red", text(1))
    finally:
        cable.stalled = False
        cable.cut()
        await layer.close()
        cable.close()


@on_loop
async def test_no_permission_for_direct_messages() -> None:
    rules = Permissions(publish=["channels/**"], subscribe=["channels/**"], direct=[])
    with kps.sync.Server("127.0.0.1:0", auth=lambda token: Identity("django", rules)) as server:
        async with layers(server, 2, token="x") as [layer, other]:
            channel = await other.new_channel()
            process = channel.partition("!")[0].removeprefix("specific.")
            with pytest.raises(kps.ServerError, match=f"{process}.*permission direct") as caught:
                await layer.send(channel, text(1))
            assert caught.value.to == process


@on_loop
async def test_another_refusal_is_not_about_permissions() -> None:
    """Here the server takes one request at a time, and one waits."""
    may_end = asyncio.Event()

    async def work(message: kps.Message) -> None:
        await may_end.wait()

    with kps.sync.Server("127.0.0.1:0", limits=kps.ServerLimits(max_pending_acks=1)) as server:
        async with kps.Client(server.address) as worker, layers(server, 2) as [layer, other]:
            await worker.subscribe("jobs", work)
            await layer.with_client(lambda client: client.publish_with_ack("jobs", 1, 60.0))
            channel = await other.new_channel()
            with pytest.raises(kps.ServerError) as caught:
                await layer.send(channel, text(1))
            assert caught.value.code == "limit_reached"
            assert "permission" not in str(caught.value)
            may_end.set()


@on_loop
async def test_consumers_are_told_what_is_lost() -> None:
    history = [kps.History("channels/group/**", size=2)]
    with kps.sync.Server("127.0.0.1:0", history=history) as server:
        cable = Cable(server.address)
        layer = KpsChannelLayer(cable.address, timeout=20, tell_lost=True)
        try:
            channel, neighbour = await layer.new_channel(), await layer.new_channel()
            await layer.group_add("red", channel)
            await layer.group_add("blue", neighbour)
            async with layers(server, confirm=True) as [other]:
                await other.group_send("red", text(0))
                assert await layer.receive(channel) == text(0)
                cable.refuses = True
                cable.cut()
                await until(lambda: server.count_clients() == 1)
                for number in range(1, 6):
                    await other.group_send("red", text(number))
                cable.refuses = False
                got = [await layer.receive(channel) for _ in range(3)]
                lost = {"type": "kps.lost", "group": "red", "count": 3}
                assert sorted(got, key=str) == sorted([lost, text(4), text(5)], key=str)
                await other.group_send("blue", text(6))
                assert await layer.receive(neighbour) == text(6)
        finally:
            await layer.close()
            cable.close()
