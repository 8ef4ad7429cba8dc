"""A chat room in the terminal, in which the writer sees who has got each line.

    kps serve
    python examples/chat.py alice            # in one terminal
    python examples/chat.py bob              # in another; then type lines

Arguments: your name, then optionally the server's address and the room.
"""

import asyncio
import sys

import kps


async def chat(name: str, address: str = "localhost:9313", room: str = "lobby") -> None:
    async def show(message: kps.Message) -> None:
        if message.sender != name:
            print(f"{message.sender}: {message.data}", flush=True)

    async with kps.Client(address, id=name) as client:
        await client.subscribe(room, show)
        print(f"you are {name} in {room}", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            ack = await client.publish_with_ack(room, line.rstrip("\n"), timeout=5)
            responses = await ack.wait()
            seen = sorted(who for who, r in responses.items() if r.success and who != name)
            print(f"  seen by {', '.join(seen) or 'nobody'}", flush=True)


if __name__ == "__main__":
    asyncio.run(chat(*sys.argv[1:]))
