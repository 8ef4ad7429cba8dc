"""Whatever the program's code raises is the failure of one message, notice or upgrade."""

import asyncio
import logging
import socket
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

import kps
import kps.sync
from kps.io_asyncio.handlers import TURN
from kps.protocol.server.hub import Hub
from tests.io.harness import PATIENCE, AnyDriver, Inbox, eventually


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit("even this")

    __repr__ = __str__


class Untouchable(BaseException):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


def cancelled() -> None:
    raise asyncio.CancelledError


def exits() -> None:
    sys.exit(3)


def raises(failure: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise failure

    return fail


FAILURES: dict[str, tuple[Callable[[], None], str]] = {
    "CancelledError": (cancelled, "CancelledError"),
    "exit": (exits, "3"),
    "KeyboardInterrupt": (raises(KeyboardInterrupt()), "KeyboardInterrupt"),
    "GeneratorExit": (raises(GeneratorExit()), "GeneratorExit"),
    "group": (raises(BaseExceptionGroup("both", [SystemExit(), ValueError()])), "both ("),
    "StopIteration": (raises(StopIteration(1)), ""),
    "StopAsyncIteration": (raises(StopAsyncIteration("no more")), ""),
    "unspeakable": (raises(Unspeakable()), "Unspeakable"),
    "untouchable": (raises(Untouchable("no")), "no"),
    "half a character": (raises(ValueError("\ud83d half")), "\\ud83d half"),
    "huge": (raises(ValueError("x" * 3_000_000)), "x" * 1000),
}


@pytest.fixture(params=FAILURES)
def failure(request: pytest.FixtureRequest) -> tuple[Callable[[], None], str]:
    return FAILURES[request.param]


def has_logged(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return any(
        text in record.getMessage() and record.levelno >= logging.ERROR
        for record in list(caplog.records)
    )


def kinds_of(driver: AnyDriver, plain: Callable[..., Any]) -> list[Callable[..., Any]]:
    """A callback in all the forms that a driver runs."""

    async def on_the_loop(*args: Any) -> Any:
        await asyncio.sleep(0)
        return plain(*args)

    if type(driver).__name__ == "ThreadsDriver":
        return [plain]
    return [plain, on_the_loop, lambda *args: on_the_loop(*args)]


def test_in_a_callback_each_is_one_failed_message(
    servers: AnyDriver,
    clients: AnyDriver,
    failure: tuple[Callable[[], None], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    fail, words = failure
    server = servers.server()
    publisher = clients.client(server.address)
    for number, receiver in enumerate([server, clients.client(server.address, id="c")]):
        for form in range(3):
            handled = Inbox()

            def handle(message: kps.Message, handled: Inbox = handled) -> None:
                if message.data % 2:
                    fail()
                handled(message)

            driver = servers if receiver is server else clients
            forms = kinds_of(driver, handle)
            if form >= len(forms):
                break
            topic = f"t{number}{form}"
            receiver.subscribe(topic, forms[form])
            for data in range(10):
                publisher.publish(topic, data)
            assert handled.take(5) == [0, 2, 4, 6, 8]
            (response,) = publisher.publish_with_ack(topic, 11).wait().values()
            assert not response.success
            assert response.error.startswith(words)
            assert len(response.error) <= 10_000
            (response,) = publisher.publish_with_ack(topic, 12).wait().values()
            assert response.success
            assert has_logged(caplog, f"a callback for topic '{topic}' failed")


def test_in_a_hook_each_is_one_refused_upgrade(
    servers: AnyDriver, clients: AnyDriver, failure: tuple[Callable[[], None], str]
) -> None:
    fail, _ = failure

    def decide(request: kps.HttpRequest) -> bool:
        if request.query == "fail":
            fail()
        return True

    def identify(token: str) -> kps.Identity:
        if token == "fail":
            fail()
        return kps.Identity(token)

    for hook in kinds_of(servers, decide):
        server = servers.server(on_upgrade=hook)
        with pytest.raises(kps.ConnectFailed) as refusal:
            clients.client(f"ws://{server.address}/ws/bus?fail", reconnect=False)
        assert refusal.value.status == 500
        clients.client(server.address).flush()
    for hook in kinds_of(servers, identify):
        server = servers.server(auth=hook)
        with pytest.raises(kps.ConnectFailed) as refusal:
            clients.client(server.address, token="fail", reconnect=False)
        assert refusal.value.status == 500
        clients.client(server.address, token="works").flush()


class Unchecked(kps.HttpResponse):
    """Goes around the checks of its class."""

    def __post_init__(self) -> None:
        pass


ODD_VERDICTS: list[Callable[[], Any]] = [
    lambda: ("no", 403),
    lambda: NotImplemented,
    lambda: 1,
    lambda: kps.HttpResponse(403, "no entry"),  # type: ignore[arg-type]
    lambda: Unchecked(403, "no entry"),  # type: ignore[arg-type]
    lambda: kps.Identity("x", lifetime=float("nan")),
]


def test_what_decides_nothing_admits_nobody_and_stops_nothing(
    servers: AnyDriver, clients: AnyDriver, caplog: pytest.LogCaptureFixture
) -> None:
    def decide(request: kps.HttpRequest) -> Any:
        return ODD_VERDICTS[int(request.query)]() if request.query else True

    def identify(token: str) -> Any:
        return ODD_VERDICTS[int(token)]() if token != "works" else kps.Identity("x")

    guarded, known = servers.server(on_upgrade=decide), servers.server(auth=identify)
    for number in range(len(ODD_VERDICTS)):
        for address, token in (
            (f"ws://{guarded.address}/ws/bus?{number}", None),
            (known.address, str(number)),
        ):
            caplog.clear()
            with pytest.raises(kps.ConnectFailed) as refusal:
                clients.client(address, token=token, reconnect=False)
            assert refusal.value.status == 500
            assert has_logged(caplog, "the hook that decides on")
    clients.client(guarded.address).flush()
    clients.client(known.address, token="works").flush()
    guarded.stop()
    known.stop()


def test_in_a_notice_each_is_logged_and_the_next_ones_come(
    servers: AnyDriver,
    clients: AnyDriver,
    failure: tuple[Callable[[], None], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    fail, _ = failure
    server = servers.server()
    for hook in kinds_of(clients, lambda *_: fail()):
        caplog.clear()
        closed = Inbox()
        client = clients.client(
            server.address, on_connect=hook, on_error=hook, on_disconnect=hook, on_close=closed
        )
        client.publish_to_id("nobody", 1)
        client.flush()
        client.close()
        closed.get()
        logged = [r for r in caplog.records if r.getMessage().startswith("a callback failed")]
        assert len(logged) == 3


def test_in_the_function_for_the_token_each_is_a_failed_attempt(
    servers: AnyDriver, clients: AnyDriver, failure: tuple[Callable[[], None], str]
) -> None:
    fail, _ = failure
    attempts = []

    def token() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            fail()
        return "t"

    quick = kps.Backoff(first=0.01, longest=0.05)
    clients.client(servers.server().address, token=token, reconnect=quick).flush()
    assert len(attempts) == 2
    attempts.clear()
    with pytest.raises(kps.ConnectFailed, match="function for the token failed"):
        clients.client(servers.server().address, token=token, reconnect=False)


def test_a_task_that_somebody_else_cancelled_is_not_the_callbacks_own() -> None:
    async def main() -> None:
        async with kps.Server("127.0.0.1:0") as server, kps.Client(server.address) as client:
            handled: list[int] = []
            done = asyncio.Event()

            async def handle(message: kps.Message) -> None:
                if message.data == 3:
                    other = asyncio.create_task(asyncio.sleep(100))
                    asyncio.get_running_loop().call_soon(other.cancel)
                    await other
                if message.data == 5:  # even its own
                    task = asyncio.current_task()
                    assert task is not None
                    task.cancel()
                    await asyncio.sleep(0)
                handled.append(message.data)
                if message.data == 99:
                    done.set()

            await client.subscribe("t", handle)
            for number in range(100):
                await client.publish("t", number)
            await asyncio.wait_for(done.wait(), PATIENCE)
            assert handled == [n for n in range(100) if n not in (3, 5)]

    asyncio.run(main())


@pytest.mark.parametrize("name", ["on_id", "on_connect", "on_disconnect", "on_error", "on_close"])
def test_the_blocking_client_refuses_coroutine_functions(name: str) -> None:
    async def never(*args: Any) -> None: ...

    class Never:
        async def __call__(self, *args: Any) -> None: ...

    wrong: Any
    for wrong in (never, Never()):
        options: Any = {name: wrong}
        with pytest.raises(kps.InvalidArgument, match="coroutine function"):
            kps.sync.Client("localhost:1", **options)
        for hook in ("on_upgrade", "auth", "on_id", "on_server_data"):
            options = {hook: wrong}
            with pytest.raises(kps.InvalidArgument, match="coroutine function"):
                kps.sync.Server("localhost:1", **options)
        server = kps.sync.Server("127.0.0.1:0")
        for refuse in (server.on_upgrade, server.on_id, server.on_server_data):
            with pytest.raises(kps.InvalidArgument, match="coroutine function"):
                refuse(wrong)
        with server, pytest.raises(kps.InvalidArgument, match="coroutine function"):
            server.subscribe("t", wrong)


def test_functions_that_would_never_run_are_refused_on_both_drivers() -> None:
    def generator(message: kps.Message) -> Any:
        yield message

    async def async_generator(message: kps.Message) -> Any:
        yield message

    async def token() -> str:
        return "t"

    wrong: Any
    for module in (kps, kps.sync):
        for wrong in (generator, async_generator):
            with pytest.raises(kps.InvalidArgument, match="generator function"):
                module.Client("localhost:1", on_id=wrong)
            with pytest.raises(kps.InvalidArgument, match="generator function"):
                module.Server("localhost:1", on_id=wrong)
        wrong = token
        with pytest.raises(kps.InvalidArgument, match="coroutine function"):
            module.Client("localhost:1", token=wrong)


def test_a_coroutine_that_a_plain_function_returns_on_threads_is_a_failure() -> None:
    async def never(*args: Any) -> None: ...

    with kps.sync.Server("127.0.0.1:0", on_upgrade=lambda request: never()) as server:
        with pytest.raises(kps.ConnectFailed):
            kps.sync.Client.connect(server.address, reconnect=False)
        server.subscribe("t", lambda message: never())
        (response,) = server.publish_with_ack("t", 1).wait().values()
        assert "returned a coroutine" in str(response.error)


# -- threads --------------------------------------------------------------------------------


def test_callbacks_that_block_keep_no_hook_and_no_notice_waiting() -> None:
    async def main() -> None:
        release = threading.Event()
        async with kps.Server("127.0.0.1:0", on_upgrade=lambda request: True) as server:
            busy = [threading.Event() for _ in range(20)]

            def block(message: kps.Message) -> None:
                busy[message.data].set()
                release.wait(PATIENCE)

            for number in range(20):
                server.subscribe(f"t{number}", block)
                await server.publish(f"t{number}", number)
            assert await asyncio.to_thread(busy[15].wait, PATIENCE)
            async with kps.Client(server.address) as client:
                await client.flush()
            release.set()
            assert await asyncio.to_thread(busy[19].wait, PATIENCE)

    asyncio.run(main())


def test_a_long_batch_makes_room_for_other_subscriptions() -> None:
    async def main() -> None:
        async with kps.Server("127.0.0.1:0") as server:
            step, other = threading.Semaphore(0), threading.Event()
            handled = [0] * 16
            begun: set[int] = set()

            def slow(message: kps.Message) -> None:
                begun.add(message.data)
                while not (other.is_set() or step.acquire(timeout=0.02)):
                    pass
                handled[message.data] += 1

            for number in range(16):
                server.subscribe(f"t{number}", slow)
                for _ in range(100):
                    await server.publish(f"t{number}", number)
            server.subscribe("other", lambda message: other.set())
            await server.publish("other", 1)
            while len(begun) < 16:
                await asyncio.sleep(0.001)
            await asyncio.sleep(2 * TURN)  # so that the turns of all threads are over
            for _ in range(32):
                step.release()
            assert await asyncio.to_thread(other.wait, PATIENCE)
            while sum(handled) < 1600:
                await asyncio.sleep(0.001)
            assert handled == [100] * 16

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_a_callback_runs_in_the_context_of_its_subscribe(
    servers: AnyDriver, clients: AnyDriver
) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="none")
    server = servers.server()
    client = clients.client(server.address)
    seen = Inbox()

    def look(message: kps.Message) -> None:
        seen(variable.get())

    def subscribe(topic: str, value: str, callback: Callable[..., Any]) -> None:
        variable.set(value)
        client.subscribe(topic, callback)

    for form, callback in enumerate(kinds_of(clients, look)):
        copy_context().run(subscribe, f"a{form}", "one", callback)
        copy_context().run(subscribe, f"b{form}", "two", callback)
        client.publish(f"a{form}", 1)
        assert seen.get() == "one"
        client.publish(f"b{form}", 1)
        assert seen.get() == "two"
    eventually(lambda: seen.is_empty(), "nothing more")


def test_a_fault_at_a_deadline_does_not_end_all_deadlines(
    servers: AnyDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: list[int] = []

    def handle_timeout(hub: Hub, now: float) -> None:
        if not faults:
            faults.append(1)
            raise RuntimeError("a fault")
        works(hub, now)

    works = Hub.handle_timeout
    monkeypatch.setattr(Hub, "handle_timeout", handle_timeout)
    server = servers.server(limits=kps.ServerLimits(handshake_timeout=0.05))
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as silent:
        assert silent.recv(100).startswith(b"HTTP/1.1 408")
    assert faults
