"""Measurements whose publishers and subscribers are in several processes, on any machines."""

import asyncio
import contextlib
import time
from array import array
from collections.abc import AsyncGenerator, AsyncIterator

from kps.cli.measuring import PATIENCE, Load, Result, row, times_row, wait_for_others
from kps.cli.percentiles import percentiles
from kps.errors import KPSError
from kps.io_asyncio.client import Client
from kps.protocol.bus.message import Message

_UNDER_WAY = 10_000  # most requests of one process that have no answer yet
_MOST_DIGITS = 16  # of a message's number


async def publish(load: Load) -> AsyncGenerator[Result, None]:
    """Publish numbered messages."""
    async with _clients(load, PATIENCE) as clients:
        for client in clients[:1]:
            await client.publish_with_receipt(load.topic, None)  # raises if it is not allowed
        began = time.perf_counter()
        lateness = array("d")
        counts = await asyncio.gather(
            *(_publish(client, load, began, lateness) for client in clients)
        )
        took = time.perf_counter() - began
    rate = sum(counts) / max(took, load.seconds)
    late = percentiles(lateness)
    figures = {"messages": sum(counts), "per_second": rate, "late_seconds": late}
    lines = [row("published", rate, "messages/s")]
    if late:
        lines.append(row("late", late["p99"] * 1e6, "µs p99, behind when they were due"))
    yield Result("published", figures, lines)


async def _publish(client: Client, load: Load, began: float, lateness: "array[float]") -> int:
    count = 0
    async for due in load.moments(began):
        if load.rate is not None:
            lateness.append(time.perf_counter() - due)
        await client.publish(load.topic, load.payload(count))
        count += 1
    await client.flush()
    return count


async def receive(load: Load) -> AsyncGenerator[Result, None]:
    """Count what arrives, for some time from the first message on, or until Ctrl-C."""
    begun = asyncio.Event()
    counts = [_Count(begun) for _ in range(load.clients)]
    async with _clients(load) as clients:
        for client, count in zip(clients, counts, strict=True):
            await client.subscribe(load.topic, count.received)
        await wait_for_others(begun, load.seconds)
    messages = sum(count.messages for count in counts)
    spans = [count.last - count.first for count in counts if count.messages > 1]
    rate = messages / max(spans, default=1.0)
    lost = sum(count.lost for count in counts)
    figures = {"messages": messages, "per_second": rate, "lost": lost}
    yield Result(
        "received", figures, [row("received", rate, "messages/s"), row("lost", lost, "messages")]
    )


class _Count:
    """What one subscriber has got."""

    def __init__(self, begun: asyncio.Event) -> None:
        self._begun = begun
        self.messages = self.lost = 0
        self.first = self.last = 0.0
        self._numbers: dict[str, int] = {}

    async def received(self, message: Message) -> None:
        """Count a message, and those of its publisher that are missing before it."""
        number = _number_of(message.data)
        if number is None:
            return  # that with which a publisher finds out whether it may publish, or a stranger's
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.messages += 1
        self._begun.set()
        expected = self._numbers.get(message.sender, number)
        self.lost += max(0, number - expected)
        self._numbers[message.sender] = number + 1


def _number_of(data: object) -> int | None:
    """Return the number of a payload of ``kps bench``; ``None`` for any other one."""
    digits = data.partition(" ")[0] if isinstance(data, str) else ""
    is_number = digits.isascii() and digits.isdecimal() and len(digits) <= _MOST_DIGITS
    return int(digits) if is_number else None


async def ask(load: Load) -> AsyncGenerator[Result, None]:
    """Ask, and measure the time to the answer: from when a request is due, if there is a rate."""
    times = array("d")
    failures: list[str] = []
    async with _clients(load, PATIENCE) as clients:
        began = time.perf_counter()
        await asyncio.gather(*(_ask(client, load, began, times, failures) for client in clients))
        took = time.perf_counter() - began
    if not times:
        raise KPSError(failures[0] if failures else "there was no time for a request")
    figures = percentiles(times)
    rate = len(times) / max(took, load.seconds)
    yield Result(
        "answered",
        {
            "requests": len(times),
            "failed": len(failures),
            "per_second": rate,
            "seconds": figures,
        },
        [
            row("answered", rate, "requests/s"),
            times_row("a request", figures),
            row("failed", len(failures), "requests"),
        ],
    )


async def _ask(
    client: Client, load: Load, began: float, times: "array[float]", failures: list[str]
) -> None:
    payload = load.payload(0)

    async def ask_once(due: float) -> None:
        try:
            await client.request(load.topic, payload)
        except KPSError as error:
            failures.append(str(error))
        else:
            times.append(time.perf_counter() - due)

    room = asyncio.Semaphore(_UNDER_WAY)

    async def ask_and_make_room(due: float) -> None:
        try:
            await ask_once(due)
        finally:
            room.release()

    async with asyncio.TaskGroup() as tasks:
        async for due in load.moments(began):
            if load.rate is None:
                await ask_once(due)
            else:
                await room.acquire()
                tasks.create_task(ask_and_make_room(due))


async def answer(load: Load) -> AsyncGenerator[Result, None]:
    """Answer requests with what they bring, for some time from the first one on."""
    answered, begun = 0, asyncio.Event()

    async def echo(message: Message) -> object:
        nonlocal answered
        answered += 1
        begun.set()
        return message.data

    async with _clients(load) as clients:
        for client in clients:
            # One group, so that each request has one answer.
            await client.subscribe(load.topic, echo, group="kps-bench", concurrency=1000)
        await wait_for_others(begun, load.seconds)
    yield Result("answers", {"requests": answered}, [row("answers", answered, "requests")])


@contextlib.asynccontextmanager
async def _clients(load: Load, patience: float | None = None) -> AsyncIterator[list[Client]]:
    """Connect all clients, one after the other.

    Raises :class:`kps.KPSError` if that takes longer than so many seconds.
    """
    clients: list[Client] = []
    async with contextlib.AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(patience):
                while len(clients) < load.clients:
                    clients.append(await stack.enter_async_context(load.new_client()))
        except TimeoutError:
            count = f"{len(clients)} of {load.clients} clients"
            reason = f"connecting took too long: {count} were connected within {patience:g} s"
            raise KPSError(reason) from None
        yield clients
