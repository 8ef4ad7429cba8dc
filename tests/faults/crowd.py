"""Many clients in one process: ``python -m tests.faults.crowd ADDRESS NAME COUNT``.

Each subscribes to ``crowd``. A line on standard input asks for a line on standard output:
``connected`` once all are, ``back SECONDS`` once all have come back since the last time that
this was asked (or since the start), and how long after the first of them lost its connection,
``got NUMBER`` once each has got that number on ``crowd``.
"""

import asyncio
import resource
import sys
from time import monotonic
from typing import Any

import kps
from kps.io_asyncio.loop import run

# Connecting at the same time, at the start. A slow machine must answer each of them in time.
_AT_ONCE = 50


class Crowd:
    """The clients of one process."""

    def __init__(self, address: str, name: str, count: int) -> None:
        self._address = address
        self._names = [f"{name}-{number}" for number in range(count)]
        self._clients: list[kps.Client] = []
        self._is_back = set[str]()
        self._lost_at = 0.0
        self._got: dict[int, int] = {}
        self._news = asyncio.Event()

    async def connect(self) -> None:
        turn = asyncio.Semaphore(_AT_ONCE)

        async def one(name: str) -> None:
            async with turn:
                client = await kps.Client.connect(
                    self._address,
                    id=name,
                    on_connect=self._connected,
                    on_disconnect=self._disconnected,
                )
                self._clients.append(client)
                await client.subscribe("crowd", self._on_number)

        await asyncio.gather(*map(one, self._names))

    async def answer(self, question: str) -> str:
        match question.split():
            case ["connected"]:
                await self.connect()
                return question
            case ["back"]:
                await self._until(lambda: len(self._is_back) == len(self._names))
                seconds = monotonic() - self._lost_at
                self._is_back.clear()
                self._lost_at = 0.0
                for client in self._clients:
                    await client.flush()  # its subscription is in force again
                return f"back {seconds:.3f}"
            case ["got", number]:
                await self._until(lambda: self._got.get(int(number)) == len(self._names))
                assert max(self._got.values()) == len(self._names), "a number came twice"
                return question
        raise AssertionError(question)

    async def _until(self, condition: Any) -> None:
        while not condition():
            self._news.clear()
            await self._news.wait()

    async def _on_number(self, message: kps.Message) -> None:
        self._got[message.data] = self._got.get(message.data, 0) + 1
        self._news.set()

    async def _connected(self, event: kps.Connected) -> None:
        if event.again:
            self._is_back.add(event.client_id)
            self._news.set()

    async def _disconnected(self, event: kps.Disconnected) -> None:
        self._lost_at = self._lost_at or monotonic()


async def main(address: str, name: str, count: int) -> None:
    crowd = Crowd(address, name, count)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(await crowd.answer(line.strip()), flush=True)


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
