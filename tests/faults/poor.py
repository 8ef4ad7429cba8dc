"""A client that runs out of descriptors: ``python -m tests.faults.poor ADDRESS DRIVER``.

When its connection is lost, it uses up all descriptors. Told to go on, it frees one after the
other, each after two more attempts have failed, until it is connected again.
"""

import asyncio
import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import kps
import kps.sync


class Failures(logging.Handler):
    """Counts the attempts that failed, which are logged."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


class Poor:
    """What happens, whatever the driver."""

    def __init__(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))
        self.failures = Failures()
        logging.getLogger("kps").addHandler(self.failures)
        self._files: list[int] = []
        self._heard: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()
        self.options: dict[str, Any] = {
            "id": "poor",
            "reconnect": 0.05,
            "on_connect": self._connected,
            "on_disconnect": self._lost,
        }

    def steps(self, client: Any) -> Iterator[Callable[[], bool]]:
        """Yield what is to be waited for."""
        yield lambda: "go on" in self._heard
        while not client.is_connected:
            enough = self.failures.count + 2
            yield partial(self._has_failed, client, enough)
            if self._files:
                os.close(self._files.pop())
        while self._files:
            os.close(self._files.pop())
        yield lambda: "end" in self._heard

    def _has_failed(self, client: Any, enough: int) -> bool:
        return self.failures.count >= enough or client.is_connected

    def got(self, message: kps.Message) -> None:
        print("got", message.data, flush=True)

    def _connected(self, event: kps.Connected) -> None:
        print("connected", event.again, flush=True)

    def _lost(self, event: kps.Disconnected) -> None:
        try:
            while True:
                self._files.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            print("lost, and no descriptors left", flush=True)

    def _listen(self) -> None:
        for line in sys.stdin:
            self._heard.append(line.strip())
            if line == "end\n":
                return  # a thread that still reads as the interpreter ends may crash it


def with_threads(address: str) -> None:
    poor = Poor()
    with kps.sync.Client(address, **poor.options) as client:
        client.subscribe("t", poor.got)
        for condition in poor.steps(client):
            while not condition():
                time.sleep(0.01)


async def with_asyncio(address: str) -> None:
    poor = Poor()
    async with kps.Client(address, **poor.options) as client:
        await client.subscribe("t", poor.got)
        for condition in poor.steps(client):
            while not condition():
                await asyncio.sleep(0.01)


if __name__ == "__main__":
    if sys.argv[2] == "threads":
        with_threads(sys.argv[1])
    else:
        asyncio.run(with_asyncio(sys.argv[1]))
