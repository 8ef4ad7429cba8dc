"""A pub/sub server with rooms, as the documentation of python-socketio has them, on uvicorn.

``join`` enters the room of a topic, ``publish`` emits to a room. With ``--requests``, ``ask``
passes a request on to the client that said ``answers``, and its answer back.
"""

import socket
import sys
from typing import Any

import socketio
import uvicorn

from fast_json import FastJson
from kps.io_asyncio.loop import run

ASKS = "--requests" in sys.argv
# Without a task for each message it is faster, and keeps their order; but then it has no call().
bus: Any = socketio.AsyncServer(async_mode="asgi", async_handlers=ASKS, json=FastJson)
answering: dict[str, str] = {}


async def join(sid: str, topic: str) -> bool:
    await bus.enter_room(sid, topic)
    return True


async def publish(sid: str, topic: str, data: Any) -> None:
    await bus.emit(topic, data, room=topic)


async def answers(sid: str, topic: str) -> bool:
    answering[topic] = sid
    return True


async def ask(sid: str, topic: str, data: Any) -> Any:
    return await bus.call(topic, data, to=answering[topic])


async def main() -> None:
    for handler in (join, publish, answers, ask):
        bus.on(handler.__name__, handler)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    config = uvicorn.Config(
        socketio.ASGIApp(bus), log_level="error", access_log=False, ws_per_message_deflate=False
    )
    host, port = listener.getsockname()
    print(f"the relay serves on {host}:{port}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    run(main())
