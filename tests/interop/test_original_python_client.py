"""The original's Python client, unchanged from PyPI, with our server and our clients."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import kps
import kps.sync
from tests.ports import kept_address

ksps = pytest.importorskip("ksps", reason="the original's client is not installed")

PATIENCE = 20.0


class ThreadedServer:
    """Our threaded server, with methods to await as those of the asyncio server are."""

    def __init__(self, address: str, **options: Any) -> None:
        self._server = kps.sync.Server(address, **options)
        self.address = ""

    async def start(self) -> None:
        self._server.start()
        self.address = self._server.address

    async def stop(self) -> None:
        await asyncio.to_thread(self._server.stop)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


Servers = type[kps.Server] | type[ThreadedServer]


def on_a_loop(test: Callable[[Servers], Awaitable[None]]) -> Callable[[Servers], None]:
    """Run a test of a coroutine function with the server of either driver."""

    @pytest.mark.parametrize("servers", [kps.Server, ThreadedServer], ids=["asyncio", "threads"])
    def run(servers: Servers) -> None:
        asyncio.run(asyncio.wait_for(test(servers), PATIENCE))

    run.__name__ = test.__name__
    return run


class Pair:
    """Our server, an original client and one of ours, with what each has received."""

    def __init__(self, servers: Servers) -> None:
        relaying = kps.Permissions(relay=["**"])
        self.server: Any = servers("127.0.0.1:0", id="server", permissions=relaying)
        self.theirs_got: asyncio.Queue[Any] = asyncio.Queue()
        self.theirs_direct: asyncio.Queue[Any] = asyncio.Queue()
        self.ours_got: asyncio.Queue[kps.Message] = asyncio.Queue()

    async def __aenter__(self) -> "Pair":
        await self.server.start()
        self.ours = await kps.Client.connect(self.server.address, id="ours", on_id=self.keep)
        self.theirs = await ksps.Client.NewClient(
            Id="theirs", Address=self.server.address, OnId=self.keep_direct
        )
        assert await self.theirs_direct.get() == {"action": "pong", "id": "theirs"}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.theirs.Close()
        await self.ours.close()
        await self.server.stop()

    async def keep(self, message: kps.Message) -> None:
        self.ours_got.put_nowait(message)

    async def keep_direct(self, data: Any, subscriber: Any) -> None:
        self.theirs_direct.put_nowait(data)

    async def keep_theirs(self, data: Any, unsubscribe: Any) -> None:
        self.theirs_got.put_nowait(data)

    async def subscribe_both(self, topic: str) -> None:
        await self.ours.subscribe(topic, self.keep)
        await self.theirs.Subscribe(topic, self.keep_theirs)
        while self.server.count_subscribers(topic)[1] != 2:
            await asyncio.sleep(0)


@on_a_loop
async def test_publishing_both_ways(servers: Servers) -> None:
    async with Pair(servers) as pair:
        await pair.subscribe_both("t")
        for payload in ({"a": [1, None, "é"]}, {"data": 5}, {"data": 1, "from": "zz"}, "x", None):
            await pair.theirs.Publish("t", payload)
            message = await pair.ours_got.get()
            assert (message.data, message.sender) == (payload, "theirs")
            assert await pair.theirs_got.get() == {"data": payload, "from": "theirs"}
            await pair.ours.publish("t", payload)
            assert await pair.theirs_got.get() == {"data": payload, "from": "ours"}
            assert (await pair.ours_got.get()).data == payload


@on_a_loop
async def test_direct_messages_both_ways(servers: Servers) -> None:
    async with Pair(servers) as pair:
        await pair.theirs.PublishToID("ours", {"hi": 1})
        message = await pair.ours_got.get()
        assert (message.data, message.sender, message.topic) == ({"hi": 1}, "theirs", "")
        await pair.ours.publish_to_id("theirs", {"hi": 2})
        assert await pair.theirs_direct.get() == {"data": {"hi": 2}}


@on_a_loop
async def test_acks_both_ways(servers: Servers) -> None:
    async with Pair(servers) as pair:
        await pair.subscribe_both("t")
        ack = await pair.theirs.PublishWithAck("t", 1, 5.0)
        responses = await ack.Wait()
        assert {name: fields["success"] for name, fields in responses.items()} == {
            "ours": True,
            "theirs": True,
        }
        assert (await pair.ours_got.get()).data == 1
        outcome = await (await pair.ours.publish_with_ack("t", 2)).wait()
        assert {name: response.success for name, response in outcome.items()} == {
            "ours": True,
            "theirs": True,
        }
        ack = await pair.theirs.PublishToIDWithAck("ours", 3, 5.0)
        assert (await ack.Wait())["ours"]["success"]
        ack = await pair.theirs.PublishWithAck("nobody", 4, 5.0)
        assert await ack.Wait() == {}


@on_a_loop
async def test_their_status_and_cancel_work_with_our_server(servers: Servers) -> None:
    async with Pair(servers) as pair:
        release = asyncio.Event()

        async def hang(message: kps.Message) -> None:
            await release.wait()

        await pair.ours.subscribe("slow", hang)
        ack = await pair.theirs.PublishWithAck("slow", 1, 60.0)
        assert await ack.GetStatus() == {"ours": False}
        assert not await ack.IsComplete()
        await ack.Cancel()
        while len(pair.server._hub.state.acks):
            await asyncio.sleep(0)
        release.set()


@on_a_loop
async def test_our_failure_reaches_their_publisher(servers: Servers) -> None:
    async with Pair(servers) as pair:

        async def fail(message: kps.Message) -> None:
            raise ValueError('said "no"\n')

        await pair.ours.subscribe("t", fail)
        ack = await pair.theirs.PublishWithAck("t", 1, 5.0)
        response = (await ack.Wait())["ours"]
        assert (response["success"], response["error"]) == (False, 'said "no"\n')


@on_a_loop
async def test_their_client_relays_to_another_server(servers: Servers) -> None:
    received: asyncio.Queue[kps.Message] = asyncio.Queue()

    async def keep(message: kps.Message) -> None:
        received.put_nowait(message)

    async with Pair(servers) as pair, kps.Server("127.0.0.1:0", on_server_data=keep) as other:
        await pair.theirs.PublishToServer(other.address, {"a": 1})
        message = await received.get()
        assert message.data == {"a": 1}
        assert message.sender == f"theirs---ws://{pair.server.address}/ws/bus"


@on_a_loop
async def test_their_reconnecting_client_comes_back_after_an_orderly_stop(
    servers: Servers,
) -> None:
    server: Any = servers(kept_address())
    await server.start()
    client = await ksps.Client.NewClient(
        Id="returns", Address=server.address, Autorestart=True, RestartEvery=0.05
    )
    await server.stop()
    again: Any = servers(server.address)
    await again.start()
    while not again.count_clients():
        await asyncio.sleep(0.001)
    await client.Close()
    await again.stop()


@on_a_loop
async def test_their_reconnecting_client_comes_back(servers: Servers) -> None:
    async with Pair(servers) as pair:
        first = pair.server
        client = await ksps.Client.NewClient(
            Id="returns", Address=first.address, Autorestart=True, RestartEvery=0.05
        )
        got: asyncio.Queue[Any] = asyncio.Queue()

        async def keep(data: Any, unsubscribe: Any) -> None:
            got.put_nowait(data)

        await client.Subscribe("t", keep)
        while first.count_subscribers("t")[1] != 1:
            await asyncio.sleep(0)
        driver = first._driver
        before = set(driver.connections)
        driver.abort_connections()
        while before.intersection(driver.connections):  # new ones may be there already
            await asyncio.sleep(0.001)
        while first.count_subscribers("t")[1] != 1:
            await asyncio.sleep(0)
        await (await connect_again(pair)).publish("t", 1)
        assert (await got.get())["data"] == 1
        await client.Close()


async def connect_again(pair: Pair) -> kps.Client:
    """Another client of ours in place of the one that was cut off."""
    await pair.ours.close()
    pair.ours = await kps.Client.connect(pair.server.address, id="ours")
    return pair.ours
