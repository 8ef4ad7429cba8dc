"""The messages that wait in a process, with a clock that the test sets."""

import asyncio
import logging

import pytest

from kps.channels.counts import Counts
from kps.channels.store import Store
from tests.channels.harness import on_loop, text


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@on_loop
async def test_only_what_has_waited_too_long_is_dropped() -> None:
    clock, counts = Clock(), Counts()
    store = Store(lambda _: 100, 60, counts, clock)
    for number in range(3):
        store.put(["a", "b"], text(number))
        clock.now += 30
    assert await store.receive("a") == text(2)  # the second one is exactly 60 s old
    assert counts.expired == 2
    store.sweep()
    assert counts.expired == 4
    assert await store.receive("b") == text(2)


@on_loop
async def test_what_is_dropped_makes_room() -> None:
    clock, counts = Clock(), Counts()
    store = Store(lambda _: 2, 60, counts, clock)
    assert [store.put(["a"], text(number)) for number in range(3)] == [0, 0, 1]
    clock.now = 60
    assert store.put(["a"], text(3)) == 0
    assert await store.receive("a") == text(3)


@on_loop
async def test_nothing_remains_of_channels_that_nobody_uses() -> None:
    clock = Clock()
    store = Store(lambda _: 2, 60, Counts(), clock)
    for number in range(10):
        store.put([f"channel{number}"], text(number))
        assert not store.hand(f"other{number}", text(number))
    receiving = asyncio.create_task(store.receive("waiting"))
    await asyncio.sleep(0)
    receiving.cancel()
    await asyncio.wait({receiving})
    await store.receive("channel0")
    assert len(store._boxes) == 9
    clock.now = 60
    store.sweep()
    assert not store._boxes


@on_loop
async def test_somebody_is_announced_once_until_a_message_finds_nobody() -> None:
    store = Store(lambda _: 2, 60, Counts(), Clock())
    announced: list[str] = []

    async def announce() -> None:
        announced.append("a")

    async def take() -> None:
        receiving = asyncio.create_task(store.receive("a", announce))
        while not store.hand("a", text(1)):
            await asyncio.sleep(0)
        assert await receiving == text(1)

    async def wait_first() -> None:
        receiving = asyncio.create_task(store.receive("a", announce))
        await asyncio.sleep(0)
        assert store.hand("a", text(1))
        assert await receiving == text(1)

    await wait_first()
    await wait_first()
    assert len(announced) == 1
    await take()  # the first attempt found nobody
    assert len(announced) == 2


def test_drops_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    counts = Counts()
    counts.full = 3
    with caplog.at_level(logging.WARNING, "kps"):
        counts.tell()
        counts.tell()
        counts.full += 2
        counts.tell()
    told = [record.args for record in caplog.records]
    assert [fields["count"] for fields in told if isinstance(fields, dict)] == [3, 2]
