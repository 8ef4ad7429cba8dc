"""What the layer does without a connection, and after it."""

import asyncio
import re
import ssl

import pytest
import trustme

import kps.sync
from kps.channels import KpsChannelLayer, bus
from kps.protocol.access.identity import Identity, Permissions
from tests.channels.harness import PATIENCE, layers, on_loop, text, until
from tests.io.harness import Cable
from tests.ports import kept_address


@pytest.fixture
def nowhere() -> str:
    """The address of a server that has stopped."""
    with kps.sync.Server(kept_address()) as server:
        return server.address


@on_loop
async def test_a_server_that_is_down(nowhere: str) -> None:
    layer = KpsChannelLayer(nowhere, timeout=0.2)
    channel = await layer.new_channel()
    waiting = [asyncio.create_task(layer.receive(each)) for each in (channel, "tasks")]
    for call in (
        layer.send(channel, text(1)),
        layer.send("tasks", text(1)),
        layer.group_send("group", text(1)),
        layer.group_add("group", channel),
        layer.flush(),
    ):
        with pytest.raises(kps.NotConnected, match=re.escape(nowhere)):
            await call
    with kps.sync.Server(nowhere):
        late = KpsChannelLayer(nowhere)
        for each, task in zip((channel, "tasks"), waiting, strict=True):
            await wait_for_owner(late, each, task)
        await late.close()
        await layer.close()


async def wait_for_owner(
    layer: KpsChannelLayer, channel: str, receiving: "asyncio.Task[object]"
) -> None:
    """Send until it arrives: the owner of the channel may not have found the server yet."""
    while not receiving.done():
        await layer.send(channel, text(1))
        await asyncio.wait({receiving}, timeout=0.1)
    assert await receiving == text(1)


@on_loop
async def test_the_loop_is_never_blocked(nowhere: str) -> None:
    """Others run on it while a call waits for the connection."""
    layer = KpsChannelLayer(nowhere, timeout=PATIENCE)
    sending = asyncio.create_task(layer.group_send("group", text(1)))
    for _ in range(10):
        await asyncio.sleep(0.01)
    assert not sending.done()  # a loop that waits itself is here when the call has failed
    await layer.close()
    with pytest.raises(kps.ClientClosed):
        await sending


def is_connected(layer: KpsChannelLayer) -> bool:
    return layer._here().bus.client.is_connected


@on_loop
async def test_a_connection_that_breaks(server: kps.sync.Server) -> None:
    """Channels, groups and workers are there again, and calls meanwhile wait."""
    cable = Cable(server.address)
    layer = KpsChannelLayer(cable.address, timeout=20)
    try:
        channel = await layer.new_channel()
        await layer.group_add("group", channel)
        working = asyncio.create_task(layer.receive("tasks"))
        await until(lambda: server.count_subscribers("channels/channel/tasks")[1] == 1)
        for number in range(3):
            cable.refuses = True  # or it may be there again before the test has looked
            cable.cut()
            await until(lambda: server.count_clients() == 0 and not is_connected(layer))
            cable.refuses = False
            await layer.group_send("group", text(number))
            assert await layer.receive(channel) == text(number)
            await layer.send(channel, text(-number))
            assert await layer.receive(channel) == text(-number)
        async with layers(server) as [other]:
            await other.send("tasks", text(7))
            assert await working == text(7)
    finally:
        await layer.close()
        cable.close()


@on_loop
async def test_messages_to_a_group_are_recovered_from_history() -> None:
    """Where the server keeps them: then a broken connection loses none of the others' messages."""
    history = [kps.History("channels/group/**", size=100)]
    with kps.sync.Server("127.0.0.1:0", history=history) as server:
        cable = Cable(server.address)
        layer = KpsChannelLayer(cable.address, timeout=20)
        try:
            channel = await layer.new_channel()
            await layer.group_add("group", channel)
            async with layers(server, confirm=True) as [other]:
                await other.group_send("group", text(0))
                assert await layer.receive(channel) == text(0)
                cable.refuses = True
                cable.cut()
                await until(lambda: server.count_clients() == 1)
                for number in range(1, 4):
                    await other.group_send("group", text(number))
                cable.refuses = False
                got = [await layer.receive(channel) for _ in range(3)]
                assert got == [text(1), text(2), text(3)]
        finally:
            await layer.close()
            cable.close()


ALLOWED = Permissions(publish=["mine/**"], subscribe=["mine/**"], groups=["**"], direct=["mine-*"])


@on_loop
async def test_with_a_token() -> None:
    def identify(token: str) -> Identity | None:
        return Identity("django", permissions=ALLOWED) if token == "secret" else None

    with kps.sync.Server("127.0.0.1:0", auth=identify) as server:
        async with layers(server, token="secret", prefix="mine") as [layer]:
            channel = await layer.new_channel()
            await layer.group_add("group", channel)
            await layer.group_send("group", text(1))
            assert await layer.receive(channel) == text(1)
            await layer.send(channel, text(2))
            assert await layer.receive(channel) == text(2)
            await layer.send("tasks", text(3))
            assert await layer.receive("tasks") == text(3)
            await layer.flush()
        async with layers(server, token="secret", prefix="other") as [layer]:
            with pytest.raises(kps.ServerError, match="may not subscribe"):
                await layer.group_add("group", await layer.new_channel())
            with pytest.raises(kps.ServerError):
                await layer.receive("tasks")
            await layer.send("tasks", text(1))
            await until(lambda: layer.counts.lost == 1)
        async with layers(server, token="wrong") as [layer]:
            for _ in range(2):
                with pytest.raises(kps.ConnectFailed):
                    await layer.group_send("group", text(1))
            with pytest.raises(kps.ConnectFailed):
                await layer.receive("tasks")


@on_loop
async def test_with_tls() -> None:
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(ours)
    authority.configure_trust(theirs)
    with kps.sync.Server("127.0.0.1:0", ssl=ours) as server:
        async with layers(server, secure=True, ssl=theirs) as [layer]:
            channel = await layer.new_channel()
            await layer.send(channel, text(1))
            assert await layer.receive(channel) == text(1)


@on_loop
async def test_close_before_there_is_a_connection(
    nowhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    layer = KpsChannelLayer(nowhere, timeout=10 * PATIENCE)
    sending = asyncio.create_task(layer.group_send("group", text(1)))
    await until(lambda: "cannot connect to" in caplog.text)
    await layer.close()
    with pytest.raises(kps.ClientClosed):
        await sending


@on_loop
async def test_a_server_that_refuses_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call says so, also the one that waits: a worker must not hang for ever."""
    monkeypatch.setattr(bus, "_PAUSE", 3600.0)  # or the layer begins anew on a slow machine
    with kps.sync.Server("127.0.0.1:0", auth=lambda token: None) as server:
        async with layers(server, token="wrong") as [layer]:
            channel = await layer.new_channel()
            for call in (
                layer.receive(channel),
                layer.receive("tasks"),
                layer.send("tasks", text(1)),
                layer.group_send("group", text(1)),
                layer.group_add("group", channel),
            ):
                with pytest.raises(kps.ConnectFailed, match="401"):
                    await call


@on_loop
async def test_a_server_that_ends_the_connection_for_good(
    server: kps.sync.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus, "_PAUSE", 3600.0)  # or the layer begins anew on a slow machine
    async with layers(server) as [layer]:
        channel = await layer.new_channel()
        await layer.send(channel, text(1))
        names = [await layer.new_channel(), "tasks"]
        waiting = [asyncio.create_task(layer.receive(each)) for each in names]
        await until(lambda: server.count_subscribers("channels/channel/tasks")[1] == 1)
        [client] = server.clients()
        server.disconnect(client.id)
        for task in waiting:
            with pytest.raises(kps.ClientClosed, match="disconnected by the server"):
                await task
        assert await layer.receive(channel) == text(1)  # which was here before
        for call in (
            layer.receive(channel),
            layer.send(channel, text(1)),
            layer.send("tasks", text(1)),
            layer.group_send("group", text(1)),
        ):
            with pytest.raises(kps.ClientClosed, match="disconnected by the server"):
                await call
        await layer.close()
        await layer.group_send("group", text(1))  # begins anew
