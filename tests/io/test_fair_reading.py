"""A connection whose bytes cost much time does not take that of the others."""

import asyncio
import socket
import threading
from typing import Any, cast

import pytest

import kps
import kps.io_asyncio.connection
import kps.io_sync.connection
from kps.io_asyncio.flushing import Flushing
from kps.protocol.wire.websocket import Output
from kps.testing.network import ManualClock
from tests.interrupting import Interruption, at_every_place

COST = 0.03
"""Seconds for whatever is read at once: more than a turn may take."""


class Costly:
    """An endpoint that spends much time on what it is given."""

    output = Output.KEEP
    wants_pause = False

    def __init__(self, clock: ManualClock, cost: float) -> None:
        self.sizes: list[int] = []
        self.is_read = True
        """Whether the driver reads, by what it has told."""
        self._clock = clock
        self._cost = cost

    def receive_data(self, data: bytes, now: float) -> None:
        self.sizes.append(len(data))
        self._clock.advance(self._cost)

    def receive_eof(self, now: float, unwritten: int = 0) -> None:
        self.output = Output.CLOSE

    def connection_lost(self, now: float, unwritten: int = 0) -> None:
        pass

    def data_to_send(self, limit: int = 0) -> bytes:
        return b""

    def set_reading(self, is_reading: bool, now: float) -> None:
        self.is_read = is_reading


class ThreadsOwner:
    """What a connection of the threads driver belongs to."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def progress(self) -> None:
        pass

    has_read = run_inline = progress

    def next_deadline(self) -> float | None:
        return None

    about_to_wait = next_deadline

    def _handle_timeout(self, now: float) -> None:
        pass


@pytest.mark.parametrize("cost", [0.0, COST])
def test_a_thread_reads_less_at_once_of_what_costs_much(
    monkeypatch: pytest.MonkeyPatch, cost: float
) -> None:
    """So that it holds the lock for shorter times; and all of it, all the same."""
    module = kps.io_sync.connection
    time = ManualClock()
    monkeypatch.setattr(module, "time_spent", lambda: time.now)
    near, far = socket.socketpair()
    endpoint = Costly(time, cost)
    connection = module.Connection(near, endpoint, ThreadsOwner())
    size = 4 * 1024 * 1024
    far.setblocking(False)
    ahead = far.send(bytes(size))
    assert ahead > 2 * module._USUAL_CHUNK
    far.setblocking(True)

    def write() -> None:
        with far:
            far.sendall(bytes(size - ahead))

    writer = threading.Thread(target=write)
    writer.start()
    connection.run()
    writer.join()
    assert endpoint.is_read
    assert sum(endpoint.sizes) == size
    if cost:
        assert len(endpoint.sizes) > 100
        assert max(endpoint.sizes[5:]) <= module._LEAST_CHUNK  # it is halved each time
    else:
        assert max(endpoint.sizes) > module._USUAL_CHUNK  # as much had come


class Transport:
    """A transport that notes whether it is to read."""

    def __init__(self) -> None:
        self.reads = True

    def get_extra_info(self, name: str) -> Any:
        return None

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def pause_reading(self) -> None:
        assert self.reads
        self.reads = False

    def resume_reading(self) -> None:
        assert not self.reads
        self.reads = True

    def is_closing(self) -> bool:
        return False


class LoopOwner:
    """What a connection of the asyncio driver belongs to."""

    is_forked = False

    def __init__(self, endpoint: Costly) -> None:
        self._endpoint = endpoint

    def _attach(self, connection: Any, peer: str) -> Costly:
        return self._endpoint

    def _detach(self, connection: Any) -> None:
        pass

    def _touch(self, connection: Any) -> None:
        pass

    def has_read(self) -> None:
        pass

    progress = has_read


def test_what_costs_much_is_read_once_in_a_turn_of_the_loop() -> None:
    """Others have theirs before it is read again."""
    time = ManualClock()

    async def main() -> None:
        endpoint, cheap = Costly(time, COST), Costly(time, 0.0)
        transport, other = Transport(), Transport()
        loop = asyncio.get_running_loop()
        connection = kps.io_asyncio.connection.Connection(
            loop, LoopOwner(cheap), stopwatch=lambda: time.now
        )
        connection.connection_made(other)  # type: ignore[arg-type]
        connection.data_received(b"cheap")
        assert other.reads
        costly = kps.io_asyncio.connection.Connection(
            loop, LoopOwner(endpoint), stopwatch=lambda: time.now
        )
        costly.connection_made(transport)  # type: ignore[arg-type]
        for _ in range(3):
            costly.data_received(b"costly")
            assert not transport.reads
            assert not endpoint.is_read
            endpoint.wants_pause = True
            costly.flush()
            endpoint.wants_pause = False
            costly.flush()
            assert not transport.reads  # it rests, whatever else is the matter
            await asyncio.sleep(0)
            assert transport.reads
            assert endpoint.is_read
        costly.data_received(b"costly")
        endpoint.wants_pause = True
        await asyncio.sleep(0)
        assert not transport.reads  # it has rested, and still wants no more
        assert not endpoint.is_read
        endpoint.wants_pause = False
        costly.flush()
        assert transport.reads
        assert endpoint.is_read
        assert cheap.is_read

    asyncio.run(main())


class Written:
    """A connection that has a lot to write, or little."""

    def __init__(self, name: str, size: int, flushed: list[str]) -> None:
        self._name = name
        self._flushed = flushed
        self.size = size

    def flush(self) -> int:
        self._flushed.append(self._name)
        return self.size


def test_little_goes_before_much_that_waited_to_be_written() -> None:
    flushed: list[str] = []
    much = {n: Written(f"much {n}", 300_000, flushed) for n in range(20)}
    little = {n: Written(f"little {n}", 100, flushed) for n in range(100, 103)}
    flushing = Flushing(cast("Any", much | little), lambda connection: cast("Any", connection).size)

    def flush(*numbers: int) -> list[str]:
        del flushed[:]
        flushing.waiting += numbers
        flushing.flush()
        return flushed

    def names(kind: str, *numbers: int) -> list[str]:
        return [f"{kind} {n}" for n in numbers]

    assert flush(*much) == names("much", *range(7))
    assert flush(0, *little) == names("little", *little) + names("much", *range(7, 14))
    assert flush(*little) == [
        *names("much", 14),  # which waits for longest
        *names("little", *little),
        *names("much", *range(15, 20), 0),
    ]
    assert not flushing.waiting
    assert flush(1, *little) == names("much", 1) + names("little", *little)


def test_an_interruption_loses_no_connection_that_is_to_be_flushed() -> None:
    def run(interruption: Interruption) -> None:
        flushed: list[str] = []
        connections = {n: Written(str(n), 1_500_000, flushed) for n in range(8)}
        flushing = Flushing(cast("Any", connections), lambda connection: 300_000)
        flushing.waiting += range(4)
        flushing.flush()
        flushing.waiting += range(4, 8)
        interruption.during(flushing.flush)
        while flushing.waiting:
            flushing.flush()
        assert set(flushed) == {str(n) for n in range(8)}

    assert at_every_place(run, "/flushing.py") > 5
