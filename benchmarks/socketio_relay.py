"""A pub/sub server with rooms, as the documentation of python-socketio has them, on uvicorn.

``join`` enters the room of a topic, ``publish`` emits to a room. With ``--requests``, ``ask``
passes a request on to the client that said ``answers``, and its answer back, and two events ask
many. With ``--redis`` and a URL it is one of several such processes, which share the rooms.
"""

import asyncio
import socket
import sys
from typing import Any

import socketio
import uvicorn

from fast_json import FastJson
from kps.io_asyncio.loop import run

ASKS = "--requests" in sys.argv
REDIS = sys.argv[-1] if "--redis" in sys.argv else None
# Without a task for each message it is faster, and keeps their order; but then it has no call().
bus: Any = socketio.AsyncServer(
    async_mode="asgi",
    async_handlers=ASKS,
    json=FastJson,
    client_manager=socketio.AsyncRedisManager(REDIS) if REDIS else None,
)


async def join(sid: str, topic: str) -> bool:
    await bus.enter_room(sid, topic)
    return True


async def publish(sid: str, topic: str, data: Any) -> None:
    await bus.emit(topic, data, room=topic)


async def answers(sid: str, topic: str) -> bool:
    await bus.enter_room(sid, f"who answers {topic}")
    return True


async def ask(sid: str, topic: str, data: Any) -> Any:
    return await bus.call(topic, data, to=f"who answers {topic}")


async def ask_room(sid: str, topic: str, data: Any, seconds: float) -> list[Any]:
    """Emit to a room with a callback; return what that was called with, once the time is over.

    Nobody tells how many there are in a room of several processes, so there is no earlier end.
    """
    found: list[Any] = []
    await bus.emit(topic, data, room=topic, callback=lambda *answer: found.append(answer))
    await asyncio.sleep(seconds)
    return found


async def ask_each(
    sid: str, topic: str, data: Any, seconds: float, sids: list[str]
) -> dict[str, str]:
    """Call each of some clients; return who has answered, and the kind of error of who has not."""

    async def ask_one(one: str) -> str:
        try:
            return str(await bus.call(topic, data, to=one, timeout=seconds))
        except socketio.exceptions.SocketIOError as error:
            return type(error).__name__

    return dict(zip(sids, await asyncio.gather(*map(ask_one, sids)), strict=True))


async def main() -> None:
    for handler in (join, publish, answers, ask, ask_room, ask_each):
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
