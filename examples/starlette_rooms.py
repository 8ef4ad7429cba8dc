"""Rooms in which all users hear each other, whichever process they are connected to.

    pip install '/path/to/the/checkout[broadcaster]' starlette 'uvicorn[standard]'
    kps serve
    uvicorn --app-dir examples --workers 2 starlette_rooms:app

Users are WebSockets at ``/rooms/NAME``. Other clients of the bus have the same on the topic
``rooms/NAME``: ``kps pub rooms/tea '"hello"'``. The server's address is taken from the variable
``KPS_ADDRESS``.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broadcaster import Broadcast
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from kps.broadcaster import KpsBackend

ADDRESS = os.environ.get("KPS_ADDRESS", "localhost:9313")

broadcast = Broadcast(backend=KpsBackend(ADDRESS, prefix="rooms/"))


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Be connected while the application runs."""
    async with broadcast:
        yield


async def room(user: WebSocket) -> None:
    """Pass on what the user says, and to the user what is said."""
    name = user.path_params["name"]
    async with broadcast.subscribe(name) as said:
        await user.accept()

        async def listen() -> None:
            while True:
                event = await said.get()
                await user.send_text(str(event.message))

        listening = asyncio.create_task(listen())
        try:
            async for line in user.iter_text():
                await broadcast.publish(name, line)
        finally:
            listening.cancel()


app = Starlette(routes=[WebSocketRoute("/rooms/{name}", room)], lifespan=lifespan)
