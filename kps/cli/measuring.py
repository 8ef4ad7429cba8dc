"""What the measurements of ``kps bench`` have in common."""

import asyncio
import signal
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kps.cli.connecting import Connecting
from kps.cli.pacing import Pace
from kps.io_asyncio.client import Client
from kps.io_asyncio.signals import on_signals

PATIENCE = 20.0
"""Seconds for connecting all clients, and seconds beyond those of all measurements."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is to be measured."""

    address: str
    options: Connecting
    """Those of the clients."""
    seconds: float
    """How long each measurement takes."""
    size: int
    """Bytes of the payload's JSON."""
    rate: float | None
    """Messages per second, of all clients; ``None``: as many as pass."""
    clients: int
    topic: str
    """Empty: a random one."""

    def new_client(self) -> Client:
        """Make a client, which is not connected yet."""
        return Client(self.address, reconnect=False, **self.options)

    async def moments(self, began: float) -> AsyncGenerator[float, None]:
        """Yield when one of the clients is to send something, for ``seconds`` from ``began`` on.

        There is always one. With a rate, each moment that is due within that time comes, also when
        it is late. Without one it is always the present. Times are as ``perf_counter`` tells them.
        """
        ends = began + self.seconds
        if self.rate is None:
            yield time.perf_counter()
            while (now := time.perf_counter()) < ends:
                yield now
            return
        pace = Pace(self.rate / self.clients, began)
        while pace.due < ends:
            yield await pace.next()

    def payload(self, number: int) -> str:
        """Return a payload that begins with a number, if it has the room."""
        text = str(number)
        return f"{text} {'x' * (self.size - len(text) - 3)}" if self.size > len(text) + 2 else text


class Result(NamedTuple):
    """A measurement, for programs and for people."""

    name: str
    figures: Mapping[str, Any]
    """Times in seconds."""
    lines: Sequence[str]


def row(label: str, value: float, unit: str) -> str:
    """Return a line for a figure."""
    return f"{label:<12} {value:>10,.0f} {unit}"


def times_row(label: str, figures: Mapping[str, float]) -> str:
    """Return a line for percentiles, given in seconds."""
    micros = {name: seconds * 1e6 for name, seconds in figures.items()}
    more = ", ".join(f"{micros[name]:,.0f} µs {name}" for name in ("p90", "p99", "p99.9", "max"))
    return row(label, micros["p50"], f"µs p50, {more}")


async def wait_for_others(begun: asyncio.Event, seconds: float) -> None:
    """Wait until others have begun, and then for some time; or until Ctrl-C or SIGTERM."""
    ended = asyncio.Event()

    async def end() -> None:
        ended.set()

    with on_signals({signal.SIGINT: end, signal.SIGTERM: end}):
        beginning = asyncio.ensure_future(begun.wait())
        ending = asyncio.ensure_future(ended.wait())
        try:
            await asyncio.wait({beginning, ending}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({ending}, timeout=seconds)
        finally:
            beginning.cancel()
            ending.cancel()
