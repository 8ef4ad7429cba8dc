"""A job for several workers: who did it, who failed, and who was not there in time.

    kps serve
    python examples/request_with_acks.py

Argument: optionally the server's address.
"""

import asyncio
import sys

import kps


async def work(message: kps.Message) -> None:
    """A worker that does its job."""


async def refuse(message: kps.Message) -> None:
    """A worker that cannot."""
    raise ValueError(f"cannot resize {message.data['file']}: no space left")


async def dawdle(message: kps.Message) -> None:
    """A worker that takes too long."""
    await asyncio.sleep(60)


async def main(address: str = "localhost:9313") -> None:
    async with (
        kps.Client(address, id="quick") as quick,
        kps.Client(address, id="full") as full,
        kps.Client(address, id="slow") as slow,
        kps.Client(address, id="boss") as boss,
    ):
        await quick.subscribe("resize", work)
        await full.subscribe("resize", refuse)
        await slow.subscribe("resize", dawdle)

        ack = await boss.publish_with_ack("resize", {"file": "cat.png"}, timeout=0.5)
        for worker, response in sorted((await ack.wait()).items()):
            print(f"{worker}: {'done' if response.success else response.error}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
