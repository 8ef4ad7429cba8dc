"""The asyncio client libraries, each seen in the same way.

All encode and decode JSON with orjson. Handlers are coroutine functions where a library takes
them, unless the class says otherwise. A library is imported by its class, so that a process has
only one of them.
"""

import asyncio
import contextlib
import importlib
import io
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import orjson

from blocking import PAYLOAD, Receive

Publish = Callable[[], Awaitable[object]]
"""Publishes one message, or asks once and waits for the answer."""


class Library(ABC):
    """One connection of an asyncio library."""

    @abstractmethod
    async def connect(self, address: str) -> None:
        """Connect, and wait until messages can be sent."""

    @abstractmethod
    async def subscribe(self, topic: str, receive: Receive) -> None:
        """Subscribe, and wait until it is in force."""

    @abstractmethod
    def publisher(self, topic: str) -> Publish:
        """What publishes one message."""

    async def flush(self) -> None:  # noqa: B027
        """Have everything written that is still buffered."""

    async def answer(self, topic: str) -> None:
        """Handle what is asked there."""
        raise NotImplementedError

    def asker(self, topic: str) -> Publish:
        """What publishes one message and waits until its one receiver has handled it."""
        raise NotImplementedError


class Kps(Library):
    """``kps.Client``."""

    level = 2

    async def connect(self, address: str) -> None:
        kps = importlib.import_module("kps")
        self._client = await kps.Client.connect(address, level=self.level)

    async def subscribe(self, topic: str, receive: Receive) -> None:
        async def handle(message: Any) -> None:
            receive(message.data)

        await self._client.subscribe(topic, handle)

    def publisher(self, topic: str) -> Publish:
        publish = self._client.publish
        return lambda: publish(topic, PAYLOAD)

    async def flush(self) -> None:
        await self._client.flush()

    async def answer(self, topic: str) -> None:
        await self.subscribe(topic, _read)

    def asker(self, topic: str) -> Publish:
        async def ask() -> None:
            ack = await self._client.publish_with_ack(topic, PAYLOAD)
            responses = await ack.wait()
            assert [response.success for response in responses.values()] == [True]

        return ask


class KpsLevel1(Kps):
    """``kps.Client`` with the protocol of the original clients."""

    level = 1


class KpsThreads(Kps):
    """``kps.Client`` with callbacks that are plain functions, which run in threads."""

    is_inline = False

    async def subscribe(self, topic: str, receive: Receive) -> None:
        def handle(message: Any) -> None:
            receive(message.data)

        await self._client.subscribe(topic, handle, inline=self.is_inline)


class KpsInline(KpsThreads):
    """The same, but they run on the event loop."""

    is_inline = True


class Ksps(Library):
    """The original's client, ``ksps``."""

    async def connect(self, address: str) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
            ksps = importlib.import_module("ksps")
            self._client = await ksps.Client.NewClient(Address=address)
        await asyncio.sleep(0.2)  # it does not tell when the server knows it

    async def subscribe(self, topic: str, receive: Receive) -> None:
        async def handle(data: Any, unsubscribe: Any) -> None:
            receive(data["data"])

        await self._client.Subscribe(topic, handle)
        await asyncio.sleep(0.2)

    def publisher(self, topic: str) -> Publish:
        publish = self._client.Publish
        return lambda: publish(topic, PAYLOAD)

    async def answer(self, topic: str) -> None:
        await self.subscribe(topic, _read)

    def asker(self, topic: str) -> Publish:
        async def ask() -> None:
            ack = await self._client.PublishWithAck(topic, PAYLOAD, 5.0)
            responses = await ack.Wait()
            assert [response["success"] for response in responses.values()] == [True]

        return ask


class Nats(Library):
    """``nats-py``: core publish and subscribe, and requests."""

    async def connect(self, address: str) -> None:
        nats = importlib.import_module("nats")
        self._client = await nats.connect(f"nats://{address}")

    async def subscribe(self, topic: str, receive: Receive) -> None:
        async def handle(message: Any) -> None:
            receive(orjson.loads(message.data))

        await self._client.subscribe(topic, cb=handle)
        await self._client.flush()

    def publisher(self, topic: str) -> Publish:
        publish = self._client.publish
        return lambda: publish(topic, orjson.dumps(PAYLOAD))

    async def flush(self) -> None:
        await self._client.flush()

    async def answer(self, topic: str) -> None:
        async def handle(message: Any) -> None:
            _read(orjson.loads(message.data))
            await message.respond(orjson.dumps({"success": True}))

        await self._client.subscribe(topic, cb=handle)
        await self._client.flush()

    def asker(self, topic: str) -> Publish:
        async def ask() -> None:
            answer = await self._client.request(topic, orjson.dumps(PAYLOAD), timeout=5)
            assert orjson.loads(answer.data)["success"] is True

        return ask


class Socketio(Library):
    """The asyncio client of ``python-socketio``."""

    async def connect(self, address: str) -> None:
        socketio = importlib.import_module("socketio")
        fast_json = importlib.import_module("fast_json")
        self._client = socketio.AsyncClient(
            json=fast_json.FastJson, reconnection=False, handle_sigint=False
        )
        await self._client.connect(f"http://{address}", transports=["websocket"])

    async def subscribe(self, topic: str, receive: Receive) -> None:
        async def handle(data: Any) -> None:
            receive(data)

        self._client.on(topic, handle)
        await self._client.call("join", topic)

    def publisher(self, topic: str) -> Publish:
        emit = self._client.emit
        return lambda: emit("publish", (topic, PAYLOAD))

    async def answer(self, topic: str) -> None:
        async def handle(data: Any) -> dict[str, bool]:
            _read(data)
            return {"success": True}

        self._client.on(topic, handle)
        await self._client.call("answers", topic)

    def asker(self, topic: str) -> Publish:
        async def ask() -> None:
            answer = await self._client.call("ask", (topic, PAYLOAD), timeout=5)
            assert answer["success"] is True

        return ask


class Websockets(Library):
    """The client of ``websockets``, with the relay of this folder."""

    async def connect(self, address: str) -> None:
        websockets = importlib.import_module("websockets.asyncio.client")
        self._client = await websockets.connect(f"ws://{address}", compression=None)
        self._receivers: dict[str, Receive] = {}
        self._reader: asyncio.Task[None] | None = None

    async def subscribe(self, topic: str, receive: Receive) -> None:
        await self._client.send(f"+{topic}")
        await self._client.recv()
        self._receivers[topic] = receive
        self._reader = asyncio.create_task(self._read_all())

    def publisher(self, topic: str) -> Publish:
        send = self._client.send
        return lambda: send(f"{topic}\n{orjson.dumps(PAYLOAD).decode()}")

    async def _read_all(self) -> None:
        async def handle(topic: str, data: Any) -> None:
            self._receivers[topic](data)

        async for message in self._client:
            topic, _, payload = message.partition("\n")
            await handle(topic, orjson.loads(payload))


class Picows(Library):
    """The client of ``picows``, with its relay. Its handlers are plain functions."""

    async def connect(self, address: str) -> None:
        picows = importlib.import_module("picows")
        receivers = self._receivers = dict[bytes, Receive]()
        writable = self._writable = asyncio.Event()
        writable.set()

        class Listener(picows.WSListener):  # type: ignore[misc, name-defined]
            def on_ws_frame(self, transport: Any, frame: Any) -> None:
                topic, _, payload = frame.get_payload_as_bytes().partition(b"\n")
                receivers[topic](payload)

            def pause_writing(self) -> None:
                writable.clear()

            def resume_writing(self) -> None:
                writable.set()

        transport, _ = await picows.ws_connect(Listener, f"ws://{address}/")
        self._send = partial(transport.send, picows.WSMsgType.TEXT)

    async def subscribe(self, topic: str, receive: Receive) -> None:
        confirmed = asyncio.get_running_loop().create_future()
        self._receivers[topic.encode()] = confirmed.set_result
        self._send(f"+{topic}".encode())
        await confirmed
        self._receivers[topic.encode()] = lambda payload: receive(orjson.loads(payload))

    def publisher(self, topic: str) -> Publish:
        send, writable, head = self._send, self._writable, topic.encode() + b"\n"

        async def publish() -> None:
            if not writable.is_set():
                await writable.wait()
            send(head + orjson.dumps(PAYLOAD))

        return publish


class Redis(Library):
    """``redis-py``, which waits for the server's answer to each publication."""

    async def connect(self, address: str) -> None:
        redis = importlib.import_module("redis.asyncio")
        host, _, port = address.rpartition(":")
        self._client = redis.Redis(host=host, port=int(port))
        await self._client.ping()

    async def subscribe(self, topic: str, receive: Receive) -> None:
        subscription = self._client.pubsub()
        await subscription.subscribe(topic)

        async def handle(message: Any) -> None:
            receive(orjson.loads(message["data"]))

        async def read_all() -> None:
            async for message in messages:
                await handle(message)

        messages = subscription.listen()
        assert (await anext(messages))["type"] == "subscribe"
        self._reader = asyncio.create_task(read_all())

    def publisher(self, topic: str) -> Publish:
        publish = self._client.publish
        return lambda: publish(topic, orjson.dumps(PAYLOAD))


class RedisPipelines(Redis):
    """``redis-py``, publishing 100 messages at once."""

    def publisher(self, topic: str) -> Publish:
        pipeline = self._pipeline = self._client.pipeline(transaction=False)

        async def publish() -> None:
            pipeline.publish(topic, orjson.dumps(PAYLOAD))
            if len(pipeline) >= 100:
                await pipeline.execute()

        return publish

    async def flush(self) -> None:
        await self._pipeline.execute()


class Mqtt(Library):
    """``aiomqtt`` with quality of service 0. It has an iterator of messages, and no handlers."""

    async def connect(self, address: str) -> None:
        aiomqtt = importlib.import_module("aiomqtt")
        host, _, port = address.rpartition(":")
        self._client = aiomqtt.Client(host, int(port))
        await self._client.__aenter__()

    async def subscribe(self, topic: str, receive: Receive) -> None:
        await self._client.subscribe(topic)
        self._reader = asyncio.create_task(self._read_all(receive))

    def publisher(self, topic: str) -> Publish:
        publish = self._client.publish
        return lambda: publish(topic, orjson.dumps(PAYLOAD))

    async def _read_all(self, receive: Receive) -> None:
        async for message in self._client.messages:
            receive(orjson.loads(message.payload))


LIBRARIES: dict[str, type[Library]] = {
    "kps": Kps,
    "kps-level-1": KpsLevel1,
    "kps-threads": KpsThreads,
    "kps-inline": KpsInline,
    "ksps": Ksps,
    "nats": Nats,
    "socketio": Socketio,
    "websockets": Websockets,
    "picows": Picows,
    "redis": Redis,
    "redis-pipelines": RedisPipelines,
    "mqtt": Mqtt,
    "kps-plain": Kps,
    "nats-plain": Nats,
}
PLAIN = "-plain"
"""How the names end of those that run on asyncio's own event loop, as programs do by default."""


def _read(data: Any) -> None:
    """What a handler does that has nothing else to do."""
    assert data["n"] == PAYLOAD["n"]
