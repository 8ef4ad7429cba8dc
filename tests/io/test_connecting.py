"""Whatever happens while a client connects is a failed attempt with a reason, on both drivers."""

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

import kps
import kps.sync
from kps.io_asyncio.client_driver import ClientDriver
from kps.io_asyncio.connection import Connection
from kps.protocol.client.session import ClientSession
from kps.protocol.wire.client_handshake import ClientWebSocket
from tests.io.harness import eventually

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Ends(BaseException):
    pass


ODD: list[BaseException] = [
    RuntimeError("can't start new thread"),
    MemoryError(),
    TypeError("x"),
    OddError(),
    OSError(10**20, "x"),
    OSError("no number"),
    UnicodeError("label too long"),
    socket.gaierror(-2, "Name or service not known"),
    ValueError("half \ud800 a surrogate"),
    Ends("x"),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    asyncio.CancelledError(),
    StopIteration(),
    StopAsyncIteration(),
    TimeoutError(),
]


def connects(options: dict[str, Any], address: str = "localhost:1") -> Iterator[BaseException]:
    """Yield what a client raises that cannot connect, on each driver and loop."""

    def blocking() -> None:
        with kps.sync.Client(address, reconnect=False, **options):
            pass

    async def main() -> None:
        async with asyncio.timeout(30):
            async with kps.Client(address, reconnect=False, **options):
                pass

    for run in (blocking, *(lambda new=new: on_loop(new, main()) for new in LOOPS)):
        try:
            run()
        except BaseException as error:
            yield error
        else:
            raise AssertionError("it is connected")


def on_loop(new: Callable[[], asyncio.AbstractEventLoop], main: Any) -> None:
    with asyncio.Runner(loop_factory=new) as runner:
        runner.run(main)


@pytest.mark.parametrize("odd", ODD, ids=lambda error: type(error).__name__)
def test_a_function_for_the_token_that_raises_anything(odd: BaseException) -> None:
    def token() -> str:
        raise odd

    for error in connects({"token": token}):
        assert isinstance(error, kps.ConnectFailed), repr(error)
        assert "the function for the token failed" in str(error)
        str(error).encode()


async def coroutine() -> str:
    return "token"


@pytest.mark.parametrize("odd", [None, 5, b"x", "", "a b", "\ud800", coroutine])
def test_a_function_for_the_token_that_returns_anything(odd: Any) -> None:
    for error in connects({"token": lambda: odd() if odd is coroutine else odd}):
        assert isinstance(error, kps.ConnectFailed), repr(error)
        assert "a token is" in str(error)


@pytest.mark.parametrize("odd", ODD, ids=lambda error: type(error).__name__)
def test_a_resolver_that_raises_anything(odd: BaseException, monkeypatch: Any) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise odd

    async def fails_there(*_: Any, **__: Any) -> Any:
        raise odd

    if isinstance(odd, (StopIteration, SystemExit, KeyboardInterrupt, GeneratorExit)):
        return  # no coroutine or thread of the loop can raise these
    monkeypatch.setattr("kps.io_sync.dialing.lookup", fails)
    monkeypatch.setattr("kps.io_asyncio.dialing.lookup", fails_there)
    for error in connects({}):
        assert isinstance(error, kps.ConnectFailed), repr(error)
        str(error).encode()


@pytest.mark.parametrize("odd", [MemoryError(), TypeError("x"), Ends("x")], ids=repr)
@pytest.mark.parametrize("where", [ClientSession, ClientWebSocket])
def test_a_connection_that_cannot_begin(
    odd: BaseException, where: type[Any], monkeypatch: Any, caplog: Any
) -> None:
    caplog.set_level(logging.CRITICAL)

    def fails(*_: Any, **__: Any) -> Any:
        raise odd

    monkeypatch.setattr(where, "connected" if where is ClientSession else "__init__", fails)
    with socket.create_server(("127.0.0.1", 0)) as server:
        for error in connects({}, f"127.0.0.1:{server.getsockname()[1]}"):
            assert isinstance(error, kps.ConnectFailed), repr(error)


def test_a_client_goes_on_after_odd_failures() -> None:
    with kps.sync.Server("127.0.0.1:0") as server:
        tries: list[int] = []

        def token() -> str:
            tries.append(1)
            if len(tries) < 4:
                raise ODD[-len(tries) - 4]
            return "token"

        with kps.sync.Client(server.address, token=token, reconnect=0.01) as client:
            client.flush()

        async def main() -> None:
            tries.clear()
            async with kps.Client(server.address, token=token, reconnect=0.01) as client:
                await client.flush()

        for new in LOOPS:
            on_loop(new, main())


# -- a loop that differs -------------------------------------------------------------------------


@pytest.mark.parametrize("new", LOOPS)
def test_a_loop_that_is_blocked_for_longer_than_the_timeout(
    new: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> None:
        async with kps.Server("127.0.0.1:0") as server, asyncio.timeout(30):
            client = kps.Client(server.address, connect_timeout=0.05, reconnect=0.01)
            opening = asyncio.create_task(client.__aenter__())
            for _ in range(20):
                await asyncio.sleep(0)
                time.sleep(0.02)  # noqa: ASYNC251
            await opening
            await client.flush()
            await client.close()

    on_loop(new, main())


@pytest.mark.parametrize("new", LOOPS)
@pytest.mark.parametrize("turns", range(12))
def test_a_connect_that_is_cancelled_at_any_turn_of_the_loop(
    new: Callable[[], asyncio.AbstractEventLoop], turns: int
) -> None:
    async def main() -> None:
        async with kps.Server("127.0.0.1:0") as server, asyncio.timeout(30):
            client = kps.Client(server.address)
            opening = asyncio.create_task(client.__aenter__())
            for _ in range(turns):
                await asyncio.sleep(0.0005)
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await opening
            await client.close()

    on_loop(new, main())


def test_a_loop_that_opened_a_transport_and_never_tells_of_its_end() -> None:
    """As uvloop does when a connect is cancelled, or late."""

    class Transport(asyncio.Transport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return None

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            pass

        def is_closing(self) -> bool:
            return True

        def get_write_buffer_size(self) -> int:
            return 0

        def abort(self) -> None:
            pass

    async def main() -> None:
        attempts: list[Connection] = []

        async def connect(make: Callable[[], Any], *_: Any) -> None:
            attempts.append(make())
            attempts[-1].connection_made(Transport())
            raise TimeoutError

        client = kps.Client("localhost:1", reconnect=0.01)
        driver: ClientDriver = client._driver
        driver.runtime.connect = connect  # type: ignore[method-assign,assignment]
        opening = asyncio.create_task(client.__aenter__())
        async with asyncio.timeout(30):
            while len(attempts) < 3:
                await asyncio.sleep(0.01)
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await opening
            await client.close()
        assert not driver.connections

    asyncio.run(main())


# -- several addresses ---------------------------------------------------------------------------


@pytest.fixture
def silent() -> Iterator[int]:
    """A port of this machine that swallows connections: nobody accepts, and its queue is full."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        with socket.socket() as probe:
            probe.settimeout(0.3)
            try:
                probe.connect(listener.getsockname())
            except TimeoutError:
                pass
            else:
                pytest.skip("the system takes connections though the queue is full")
        yield listener.getsockname()[1]


def entry(port: int) -> Any:
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))


def name_of(ports: list[int], monkeypatch: Any) -> None:
    """Let every name have an address for each port."""

    async def there(*_: Any, **__: Any) -> Any:
        return [entry(port) for port in ports]

    monkeypatch.setattr("kps.io_sync.dialing.lookup", lambda *_: [entry(port) for port in ports])
    monkeypatch.setattr("kps.io_asyncio.dialing.lookup", there)


def test_an_address_that_swallows_packets_does_not_hide_the_next_one(
    silent: int, monkeypatch: Any
) -> None:
    with kps.sync.Server("127.0.0.1:0") as server:
        port = int(server.address.rpartition(":")[2])
        for ports in ([silent, port], [1, silent, port], [silent, silent, port], [port, silent]):
            name_of(ports, monkeypatch)
            with kps.sync.Client("two.test:9313", reconnect=False, connect_timeout=20) as client:
                client.flush()

            async def main() -> None:
                options: Any = {"reconnect": False, "connect_timeout": 20}
                async with kps.Client("two.test:9313", **options) as client:
                    await client.flush()

            for new in LOOPS:
                on_loop(new, main())


def test_the_timeout_is_for_all_addresses_together(silent: int, monkeypatch: Any) -> None:
    name_of([silent] * 40, monkeypatch)  # so many that a slow machine is far from as slow
    begun = time.monotonic()
    errors = list(connects({"connect_timeout": 0.7}, "two.test:9313"))
    assert time.monotonic() - begun < 3 * 40 * 0.7
    assert [str(error) for error in errors] == [
        "cannot connect to two.test:9313: no answer in time"
    ] * 3


def test_when_all_addresses_fail_the_first_one_says_why(monkeypatch: Any) -> None:
    before = threading.enumerate()
    name_of([1, 1], monkeypatch)
    for error in connects({}, "two.test:9313"):
        assert str(error) == "cannot connect to two.test:9313: connection refused"
    name_of([], monkeypatch)
    for error in connects({}, "two.test:9313"):
        assert "the name has no address" in str(error)

    def has_ended() -> bool:
        more = set(threading.enumerate()).difference(before)
        return all(thread.name != "kps-client" for thread in more)

    eventually(has_ended, "the end of the threads of the clients")


def test_a_server_that_gets_no_thread(monkeypatch: Any) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fails)
    with pytest.raises(kps.ServerStartFailed, match="no thread"):
        kps.sync.Server("127.0.0.1:0").start()

    async def main() -> None:
        with pytest.raises(kps.ServerStartFailed, match="no thread"):
            await kps.Server("127.0.0.1:0").start()

    for new in LOOPS:
        loop = new()
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()
