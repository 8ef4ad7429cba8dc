"""``KpsConsumer``: a consumer on the topics of the bus."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.consumer import AsyncConsumer
from channels.layers import InMemoryChannelLayer, channel_layers
from django.conf import settings

import kps.sync
from kps.channels import KpsConsumer
from tests.channels.harness import PATIENCE, layers, on_loop, until

if not settings.configured:
    settings.configure()


class Consumer(KpsConsumer, AsyncConsumer):
    """Does what it is told, and tells what comes of it."""

    async def do(self, told: dict[str, Any]) -> None:
        try:
            result = await getattr(self, told["verb"])(*told["arguments"])
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
        await self.send({"type": "done", "result": result})

    async def subscribe_twice(self) -> list[str]:
        calls = [self.kps_subscribe("t"), self.kps_subscribe("t")]
        done = await asyncio.gather(*calls, return_exceptions=True)
        return [type(each).__name__ for each in done]

    async def end_what_begins(self) -> None:
        beginning = asyncio.create_task(self.kps_subscribe("t"))
        await asyncio.sleep(0)
        await self.kps_unsubscribe("t")
        await beginning

    async def kps_message(self, message: kps.Message) -> object:
        if message.data == "fail":
            raise ValueError("as it should")
        await self.send({"type": "heard", "data": message.data})
        return {"heard": message.data}


@asynccontextmanager
async def consumer(layer: Any) -> AsyncIterator[ApplicationCommunicator]:
    channel_layers.set("default", layer)
    running = ApplicationCommunicator(Consumer.as_asgi(), {"type": "test"})
    try:
        yield running
    finally:
        running.stop(exceptions=False)
        await asyncio.wait({running.future})
        channel_layers.backends.clear()


async def do(running: ApplicationCommunicator, verb: str, *arguments: object) -> Any:
    await running.send_input({"type": "do", "verb": verb, "arguments": arguments})
    return (await running.receive_output(PATIENCE))["result"]


@on_loop
async def test_hears_answers_and_publishes(server: kps.sync.Server) -> None:
    async with layers(server) as [layer], consumer(layer) as running:
        await do(running, "kps_subscribe", "t")
        await do(running, "kps_subscribe", kps.Pattern("a/**"))
        assert await do(running, "kps_subscribe", "t") == (
            "InvalidState: this consumer is subscribed to 't' already"
        )
        with kps.sync.Client(server.address) as client:
            asking = asyncio.create_task(asyncio.to_thread(client.request, "t", 1, PATIENCE))
            heard = await running.receive_output(PATIENCE)
            assert heard == {"type": "heard", "data": 1}
            assert await asking == {"heard": 1}
            with pytest.raises(kps.RequestFailed, match="as it should"):
                await asyncio.to_thread(client.request, "a/b", "fail", PATIENCE)
            client.subscribe("double", lambda message: 2 * message.data)
            assert await do(running, "kps_request", "double", 4) == 8
            with client.subscribe("news") as news:
                await do(running, "kps_publish", "news", [1])
                assert (await asyncio.to_thread(next, news)).data == [1]
            await do(running, "kps_unsubscribe", "t")
            await until(lambda: server.count_subscribers("t")[1] == 0)
            await do(running, "kps_unsubscribe", "t")


@on_loop
async def test_ends_with_the_consumer(server: kps.sync.Server) -> None:
    async with layers(server) as [layer]:
        async with consumer(layer) as running:
            await do(running, "kps_subscribe", "t")
            assert server.count_subscribers("t")[1] == 1
        await until(lambda: server.count_subscribers("t")[1] == 0)


@on_loop
async def test_needs_our_layer() -> None:
    async with consumer(InMemoryChannelLayer()) as running:
        assert await do(running, "kps_subscribe", "t") == (
            "InvalidState: the channel layer of this consumer is not one of KPS"
        )


@on_loop
async def test_what_is_begun_in_several_tasks_ends_too(server: kps.sync.Server) -> None:
    async with layers(server) as [layer]:
        async with consumer(layer) as running:
            await do(running, "end_what_begins")
            await until(lambda: server.count_subscribers("t")[1] == 0)
            assert await do(running, "subscribe_twice") == ["NoneType", "InvalidState"]
            assert server.count_subscribers("t")[1] == 1
        await until(lambda: server.count_subscribers("t")[1] == 0)
