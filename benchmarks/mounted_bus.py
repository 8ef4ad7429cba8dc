"""A bus in an application that uvicorn serves: over ASGI, or by the protocol of ``kps.uvicorn``."""

import argparse
import asyncio
from typing import Any

import uvicorn

from kps.asgi import Bus, Receive, Scope, Send


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request with nothing."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def serve(*, is_direct: bool, ws: str) -> None:
    """Serve until the process ends."""
    bus = Bus(application, path="/ws/bus", console=False)
    chosen: Any = ws
    if is_direct:
        from kps.uvicorn import protocol

        chosen = protocol(bus, "/ws/bus")
    config = uvicorn.Config(
        bus, host="127.0.0.1", port=0, log_level="error", ws=chosen, lifespan="on"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    print(f"serves on ws://127.0.0.1:{port}", flush=True)
    await serving


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--direct", action="store_true", help="with the protocol of kps.uvicorn")
    parser.add_argument("--ws", default="auto", help="which implementation of uvicorn")
    options = parser.parse_args()
    import uvloop

    uvloop.run(serve(is_direct=options.direct, ws=options.ws))
