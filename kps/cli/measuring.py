"""What the measurements of ``kps bench`` have in common."""

import asyncio
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kps.cli.connecting import Connecting
from kps.cli.pacing import Pace
from kps.io_asyncio.client import Client
from kps.io_asyncio.signals import on_signals


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

    def new_pace(self) -> Pace | None:
        """Return the pace of one of the clients."""
        return None if self.rate is None else Pace(self.rate / self.clients)

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
