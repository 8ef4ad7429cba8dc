"""The same relay as that of ``websockets``, made with ``picows``, which calls back for each frame.

``picows`` reads and writes frames in C; callbacks are plain functions.
"""

import asyncio

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

from kps.io_asyncio.loop import run

TEXT = WSMsgType.TEXT
subscribers: dict[bytes, set[WSTransport]] = {}


class Relay(WSListener):  # type: ignore[misc, unused-ignore]
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is not TEXT:
            transport.disconnect()
            return
        message = frame.get_payload_as_bytes()
        if message[:1] == b"+":
            topic = message[1:]
            subscribers.setdefault(topic, set()).add(transport)
            transport.send(TEXT, topic)
        else:
            for subscriber in subscribers.get(message[: message.find(b"\n")], ()):
                subscriber.send(TEXT, message)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        for transports in subscribers.values():
            transports.discard(transport)


async def main() -> None:
    server = await ws_create_server(lambda request: Relay(), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"the relay serves on {host}:{port}", flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    run(main())
