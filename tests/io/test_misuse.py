"""Where a client or server must not be used: it says so at once, and is none the worse for it."""

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import kps
import kps.sync
from kps.io_common import forks
from tests.io.harness import PATIENCE, eventually

NO_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")

BOTH: list[Callable[[Any], Any]] = [
    lambda it: it.publish("t", 1),
    lambda it: it.publish_to_id("a", 1),
    lambda it: it.publish_to_server("a:1", 1),
    lambda it: it.publish_with_ack("t", 1),
    lambda it: it.publish_to_id_with_ack("a", 1),
    lambda it: it.subscribe("t"),
    lambda it: it.unsubscribe("t"),
]
CLIENT: list[Callable[[Any], Any]] = [
    *BOTH,
    lambda client: client.flush(),
    lambda client: client.publish_with_receipt("t", 1),
    lambda client: client.run(),
    lambda client: client.close(),
]
SERVER: list[Callable[[Any], Any]] = [
    *BOTH,
    lambda server: server.count_clients(),
    lambda server: server.count_subscribers("t"),
    lambda server: server.serve(),
    lambda server: server.stop(),
]


def in_thread(work: Callable[[], object]) -> BaseException | None:
    """Run a function in a thread; return what it raised."""
    raised: list[BaseException | None] = [None]

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised[0] = error

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "it hangs"
    return raised[0]


async def awaited(call: Callable[[Any], Any], target: Any) -> None:
    result = call(target)
    if isinstance(result, Awaitable):
        await result


@pytest.mark.parametrize("debug", [False, True])
def test_every_call_from_another_thread_or_loop_is_refused(debug: bool) -> None:
    async def main() -> None:
        async with kps.Server("127.0.0.1:0") as server, kps.Client(server.address) as client:
            messages = await client.subscribe("t")
            own = server.subscribe("t")
            ack = await server.publish_with_ack("t", 0)
            (await anext(messages)), (await anext(own))
            handles: list[tuple[Callable[[Any], Any], Any]] = [
                *((call, client) for call in CLIENT),
                *((call, server) for call in SERVER),
                (anext, messages),
                (anext, own),
                (lambda messages: messages.unsubscribe(), messages),
                (lambda ack: ack.wait(), ack),
                (lambda ack: ack.wait_any(), ack),
                (lambda ack: ack.status(), ack),
                (lambda ack: ack.cancel(), ack),
            ]
            for is_due in (False, True):
                for call, target in handles:
                    if is_due:  # the step of this turn is scheduled, and a check may be skipped
                        await client.publish("else", 0)
                        await server.publish("else", 0)
                    error = in_thread(lambda c=call, t=target: asyncio.run(awaited(c, t)))  # type: ignore[misc]
                    assert isinstance(error, kps.WrongThread), (call, target, error)
            error = in_thread(lambda: client.publish("t", 1).send(None))  # no loop at all
            assert isinstance(error, kps.WrongThread)
            await client.publish("t", 1)
            assert (await anext(messages)).data == 1
            assert (await anext(own)).data == 1
            await server.publish("t", 2)
            assert (await anext(messages)).data == 2

    asyncio.run(main(), debug=debug)


def test_a_subscription_may_be_ended_from_any_thread() -> None:
    async def main() -> None:
        async with kps.Server("127.0.0.1:0") as server, kps.Client(server.address) as client:
            messages = await client.subscribe("t")
            assert await asyncio.to_thread(in_thread, messages) is None
            assert [message async for message in messages] == []

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore")  # of sockets that nobody closed
def test_after_the_loop_has_ended() -> None:
    async def begin() -> tuple[kps.Server, kps.Client, kps.Messages]:
        server = kps.Server("127.0.0.1:0")
        await server.start()
        client = await kps.Client.connect(server.address)
        messages = await client.subscribe("t")
        await client.publish_with_receipt("t", 1)
        await client.flush()  # behind the message, which is pending now
        return server, client, messages

    server, client, messages = asyncio.run(begin())
    for call in CLIENT:
        with pytest.raises(kps.InvalidState, match="has ended"):
            asyncio.run(awaited(call, client))
    for call in SERVER:
        with pytest.raises(kps.InvalidState, match="has ended"):
            asyncio.run(awaited(call, server))
    with pytest.raises(kps.InvalidState, match="has ended"):
        asyncio.run(awaited(anext, messages))
    with pytest.raises(kps.InvalidState, match="has ended"):
        anext(messages).__await__().send(None)
    assert not client.is_connected
    messages()  # nothing is left to end
    del client, server, messages
    gc.collect()


def test_a_step_that_is_due_when_the_loop_ends_lets_nothing_in() -> None:
    async def begin() -> tuple[kps.Server, kps.Client]:
        server = kps.Server("127.0.0.1:0")
        await server.start()
        client = await kps.Client.connect(server.address)
        return server, client

    async def end() -> None:
        await client.close()
        await server.stop()

    loop = asyncio.new_event_loop()
    server, client = loop.run_until_complete(begin())
    loop.call_soon(loop.stop)
    for target in (client, server):
        loop.call_soon(target._driver.progress)
    loop.run_forever()
    for target in (client, server):
        assert target._driver.due_on
        with pytest.raises(kps.WrongThread):
            asyncio.run(awaited(lambda it: it.publish("t", 1), target))
    loop.run_until_complete(end())
    loop.close()


def test_a_start_without_a_loop() -> None:
    for start in (kps.Client("localhost:1").__aenter__(), kps.Server("127.0.0.1:0").start()):
        with pytest.raises(kps.InvalidState, match="no event loop"):
            start.send(None)


@pytest.mark.parametrize("sync", [False, True])
def test_run_belongs_to_the_main_thread_and_to_no_loop(sync: bool) -> None:
    server = (kps.sync.Server if sync else kps.Server)("127.0.0.1:0")
    error = in_thread(server.run)
    assert isinstance(error, kps.InvalidState)
    assert "main thread" in str(error)

    async def main() -> None:
        with pytest.raises(kps.InvalidState, match="event loop"):
            kps.Server("127.0.0.1:0").run()

    asyncio.run(main())


def test_run_of_a_client_belongs_to_the_main_thread() -> None:
    with kps.sync.Server("127.0.0.1:0") as server:
        with kps.sync.Client(server.address) as client:
            assert isinstance(in_thread(client.run), kps.InvalidState)
            client.publish("t", 1)

        async def main() -> None:
            async with kps.Client(server.address) as client:
                await client.run()

        assert isinstance(in_thread(lambda: asyncio.run(main())), kps.InvalidState)


# -- forks ---------------------------------------------------------------------------------------


def forked(work: Callable[[], object]) -> int:
    """Run a function in a forked child, which then exits; return its status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        threading.Event().wait(0.05)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")


@contextmanager
def held_elsewhere(lock: threading.RLock) -> Iterator[None]:
    """Let another thread hold a lock."""
    is_held, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            is_held.set()
            may_end.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait()
    try:
        yield
    finally:
        may_end.set()
        holder.join()


@NO_FORK
def test_a_forked_child_is_refused_and_the_parent_goes_on_in_threads() -> None:
    with kps.sync.Server("127.0.0.1:0") as server, kps.sync.Client(server.address) as client:
        messages = client.subscribe("t")
        ack = server.publish_with_ack("t", 0)
        eventually(lambda: len(messages._mailbox) == 1)

        def child() -> None:
            for call in CLIENT[:-1]:
                with pytest.raises(kps.InvalidState, match="fork"):
                    call(client)
            for call in SERVER[:-1]:
                with pytest.raises(kps.InvalidState, match="fork"):
                    call(server)
            for end in (lambda: next(messages), ack.wait, ack.wait_any):
                with pytest.raises(kps.InvalidState, match="fork"):
                    end()
            assert not client.is_connected
            messages.unsubscribe()
            client.close()
            server.stop()

        with held_elsewhere(client._driver.lock), held_elsewhere(server._driver.lock):
            assert forked(child) == 0
        assert next(messages).data == 0
        client.publish("t", 1)
        assert next(messages).data == 1


@NO_FORK
def test_a_callback_that_forks_is_the_last_one_in_the_child() -> None:
    with kps.sync.Server("127.0.0.1:0") as server:
        calls, writes = os.pipe()
        children: list[int] = []
        handled = threading.Event()

        def callback(message: kps.Message) -> None:
            os.write(writes, b"x")
            if message.data == 1:
                with held_elsewhere(server._driver.lock):
                    child = os.fork()
                if child:
                    children.append(child)
            else:
                handled.set()

        with server._driver.lock:  # the messages come together
            server.subscribe("t", callback)
            server.publish("t", 1)
            server.publish("t", 2)
        assert handled.wait(PATIENCE)
        (child,) = children
        try:
            eventually(lambda: os.waitpid(child, os.WNOHANG)[0] != 0, "the end of the child")
        except AssertionError:
            os.kill(child, 9)
            raise
        assert os.read(calls, 100) == b"xx"
        os.close(calls)
        os.close(writes)


@NO_FORK
def test_a_client_that_did_not_start_keeps_no_other_from_learning_of_a_fork(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("no thread is left")

    with kps.sync.Server("127.0.0.1:0") as server, kps.sync.Client(server.address) as client:
        failed = [kps.sync.Client(server.address) for _ in range(20)]
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start)
            for one in failed:
                with pytest.raises(kps.ConnectFailed, match="thread"):
                    one._open()

        def child() -> None:
            with pytest.raises(kps.InvalidState, match="fork"):
                client.publish("t", 1)
            for one in failed:
                assert not one._driver.is_forked  # it may start here

        assert forked(child) == 0


def test_all_learn_of_a_fork_though_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class Target:
        is_forked = False

        def forked(self) -> None:
            self.is_forked = True
            raise ValueError

    monkeypatch.setattr(forks, "_known", set())
    targets = [Target() for _ in range(3)]
    for target in targets:
        forks.watch_forks(target)
    with pytest.raises(ValueError):
        forks._tell_all()
    assert all(target.is_forked for target in targets)


@NO_FORK
def test_a_forked_child_is_refused_and_the_parent_goes_on_on_a_loop() -> None:
    async def main() -> None:
        async with kps.Server("127.0.0.1:0") as server, kps.Client(server.address) as client:
            messages = await client.subscribe("t")
            await client.publish("else", 0)
            await server.publish("t", 0)
            await client.flush()

            def child() -> None:
                for target, calls in ((client, CLIENT[:-1]), (server, SERVER[:-1])):
                    for call in calls:
                        with pytest.raises(kps.InvalidState):
                            result = call(target)
                            if isinstance(result, Awaitable):
                                result.__await__().__next__()
                with pytest.raises(kps.InvalidState):
                    anext(messages).__await__().send(None)
                assert not client.is_connected
                for end in (client.close(), server.stop()):
                    with pytest.raises(StopIteration):
                        end.send(None)

            assert forked(child) == 0
            assert (await anext(messages)).data == 0
            await client.publish("t", 1)
            assert (await anext(messages)).data == 1

    asyncio.run(main())


EXITS = """
import os, sys, kps.sync
with kps.sync.Server("127.0.0.1:0") as server, kps.sync.Client(server.address) as client:
    client.subscribe("t", print)
    client.flush()
    if os.fork() == 0:
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
    client.flush()
"""
EXITS_ON_LOOP = """
import asyncio, os, sys, kps
async def main():
    async with kps.Server("127.0.0.1:0") as server, kps.Client(server.address) as client:
        await client.subscribe("t", lambda message: None)  # has a thread
        await client.publish_with_receipt("t", 1)
        if os.fork() == 0:
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
        await client.flush()
        os._exit(0)  # the child has ended the loop's own wake-up, as with any asyncio program
asyncio.run(main())
"""


@NO_FORK
@pytest.mark.parametrize("program", [EXITS, EXITS_ON_LOOP], ids=["threads", "loop"])
def test_a_forked_child_exits_at_once(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "7", "")


# -- calls from within a call --------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no such timers")
def test_a_signal_handler_publishes_while_the_main_thread_does() -> None:
    most = 3000
    with kps.sync.Server("127.0.0.1:0") as server, kps.sync.Client(server.address) as client:
        own, theirs = client.subscribe("own"), client.subscribe("theirs")
        from_handler = 0

        def handler(*_: object) -> None:
            nonlocal from_handler
            client.publish("theirs", from_handler)
            server.publish("theirs", -1 - from_handler)
            from_handler += 1
            # The timer runs once, because the handler must not interrupt itself. At the end it is
            # not set again: a signal that came just before it was stopped is handled after that.
            if is_going:
                signal.setitimer(signal.ITIMER_REAL, 0.0005)

        is_going = True
        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        try:
            for number in range(most):
                client.publish("own", number)
        finally:
            is_going = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert [next(own).data for _ in range(most)] == list(range(most))
        got = [next(theirs).data for _ in range(2 * from_handler)]
        assert [number for number in got if number >= 0] == list(range(from_handler))
        assert [-1 - number for number in got if number < 0] == list(range(from_handler))


def test_a_log_handler_publishes_what_kps_logs() -> None:
    class Publishes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            client.publish("log", record.getMessage())

    handler = Publishes(logging.WARNING)
    limits = kps.ClientLimits(mailbox_messages=2)
    with kps.sync.Server("127.0.0.1:0") as server:
        with kps.sync.Client(server.address, limits=limits) as client:
            log = kps.sync.Client(server.address)
            with log:
                lines = log.subscribe("log", timeout=PATIENCE)
                messages = client.subscribe("t")
                logging.getLogger("kps").addHandler(handler)
                try:
                    for number in range(10):
                        client.publish_with_receipt("t", number)
                    client.flush()
                    assert "too slowly" in next(lines).data
                finally:
                    logging.getLogger("kps").removeHandler(handler)
                assert messages.dropped > 0
