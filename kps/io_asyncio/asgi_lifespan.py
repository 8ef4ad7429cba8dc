"""Starts and stops the bus of an application with the application, by the lifespan of ASGI."""

from collections.abc import Awaitable, Callable

from kps.errors import InvalidState
from kps.io_asyncio.asgi_scope import Application, Message, Receive, Scope, Send

Act = Callable[[], Awaitable[None]]


async def serve_lifespan(start: Act, stop: Act, receive: Receive, send: Send) -> None:
    """Answer the lifespan of an application that consists of the bus."""
    await receive()
    try:
        await start()
    except Exception as error:
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        return
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await stop()
    await send({"type": "lifespan.shutdown.complete"})


async def share_lifespan(
    start: Act, stop: Act, other: Application, scope: Scope, receive: Receive, send: Send
) -> None:
    """Pass the lifespan on to another application, within which the bus lives.

    One that knows of no lifespan raises, returns, or answers with something else.
    """
    given: list[Message] = []
    has_answered = False

    async def hear() -> Message:
        message = await receive()
        given.append(message)
        if message["type"] == "lifespan.startup":
            await start()  # before the other one starts, which may use it
        return message

    async def tell(message: Message) -> None:
        nonlocal has_answered
        if not str(message["type"]).startswith("lifespan."):
            raise InvalidState("the application takes the lifespan for a request")
        has_answered = True
        if message["type"] != "lifespan.startup.complete":  # it has ended, or has not begun
            await stop()
        await send(message)

    async def once_more() -> Message:
        return given.pop() if given else await receive()

    try:
        await other(scope, hear, tell)
    except Exception:
        if has_answered:
            await stop()
            raise
    if not has_answered:
        await serve_lifespan(start, stop, once_more, send)
