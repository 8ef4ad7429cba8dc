"""The least that passes messages on: a relay of a few lines, made with ``websockets``.

A client sends ``+topic`` to subscribe, and ``topic``, a line end and a payload to publish. The
relay does not look into payloads: no ids, no acks, no limits, no bounded queues.
"""

import asyncio

import websockets
import websockets.asyncio.server

from kps.io_asyncio.loop import run

subscribers: dict[str, set[websockets.asyncio.server.ServerConnection]] = {}


async def serve(connection: websockets.asyncio.server.ServerConnection) -> None:
    try:
        async for message in connection:
            assert isinstance(message, str)
            topic, _, _ = message.partition("\n")
            if topic[:1] == "+":
                subscribers.setdefault(topic[1:], set()).add(connection)
                await connection.send(topic)
            else:
                websockets.asyncio.server.broadcast(subscribers.get(topic, ()), message)
    finally:
        for connections in subscribers.values():
            connections.discard(connection)


async def main() -> None:
    async with websockets.asyncio.server.serve(
        serve, "127.0.0.1", 0, compression=None, ping_interval=25
    ) as server:
        host, port = next(iter(server.sockets)).getsockname()
        print(f"the relay serves on {host}:{port}", flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    run(main())
