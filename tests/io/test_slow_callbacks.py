"""Callbacks that are slower than the publisher lose nothing, on every driver."""

import asyncio
import threading
import time
from typing import Any

import pytest

import kps
import kps.sync
from tests.io.harness import PATIENCE, AnyDriver, AsyncioDriver, Inbox, eventually
from tests.io.test_asyncio import on_both_loops
from tests.io.test_waits import in_thread

FEW = kps.ClientLimits(mailbox_messages=1280)
"""A client pauses reading at 40 messages. The rest has room for what one read may bring."""

PADDING = "x" * 1000


@pytest.mark.parametrize("form", ["plain", "coroutine", "iterator"])
def test_a_slow_subscription_gets_everything(
    clients: AnyDriver, servers: AnyDriver, form: str
) -> None:
    server = servers.server()
    client = clients.client(server.address, limits=FEW)
    slow, fast = Inbox(), Inbox()

    def plain(message: kps.Message) -> None:
        time.sleep(0.0005)
        slow(message)

    async def coroutine(message: kps.Message) -> None:
        await asyncio.sleep(0.0005)
        slow(message)

    if form == "iterator":
        messages = client.subscribe("t")

        def iterate() -> None:
            for message in messages:
                plain(message)

        in_thread(iterate)
    elif form == "plain" or isinstance(clients, AsyncioDriver):
        client.subscribe("t", plain if form == "plain" else coroutine)
    else:
        return
    client.subscribe("t", fast)
    for number in range(2500):
        server.publish("t", [number, PADDING])
    for inbox in (slow, fast):
        assert [number for number, _ in inbox.take(2500)] == list(range(2500))


def test_on_threads_a_mailbox_that_waits_for_its_turn_is_not_to_blame() -> None:
    with kps.sync.Server("127.0.0.1:0") as server:
        step, taken = threading.Semaphore(0), Inbox()

        def slow(message: kps.Message) -> None:
            taken(message)
            step.acquire(timeout=PATIENCE)

        server.subscribe("slow", slow)
        for number in range(50):
            server.publish("slow", number)
        assert taken.data() == 0
        other: Any = server.subscribe("other", slow)
        mailbox = other._mailbox
        for number in range(50):
            server.publish("other", number)
        before = mailbox.progress()
        assert before == mailbox.progress()
        time.sleep(0.02)  # a turn of the thread
        step.release()
        eventually(lambda: mailbox.progress() != before, "the next turn")
        for _ in range(100):
            step.release()


@on_both_loops
async def test_an_ack_does_not_wait_for_the_slow_callback_behind_it() -> None:
    goes_on = threading.Event()

    def callback(message: kps.Message) -> Any:
        if message.data == "slow":
            assert goes_on.wait(PATIENCE)
        return message.data

    async with kps.Server("127.0.0.1:0") as server:
        server.subscribe("t", callback)
        kinds = ("quick", "quick", "slow", "quick")
        acks = [await server.publish_with_ack("t", kind, PATIENCE) for kind in kinds]
        for ack in acks[:2]:
            (outcome,) = (await ack.wait()).values()
            assert outcome.result == "quick"
        assert [len(ack.responses) for ack in acks] == [1, 1, 0, 0]
        goes_on.set()
        outcomes = [next(iter((await ack.wait()).values())) for ack in acks]
        assert [outcome.result for outcome in outcomes] == list(kinds)


@on_both_loops
async def test_a_thread_calls_the_loop_once_for_many_messages() -> None:
    returns = 0
    handled: list[Any] = []

    async with kps.Server("127.0.0.1:0") as server:
        tell = server._driver.dispatcher.returns.tell

        def count(handler: Any) -> None:
            nonlocal returns
            returns += 1
            tell(handler)

        server._driver.dispatcher.returns.tell = count  # type: ignore[method-assign]
        server.subscribe("t", lambda message: handled.append(message.data))
        for number in range(4000):
            await server.publish("t", number)
        while len(handled) < 4000:
            await asyncio.sleep(0.001)
        assert handled == list(range(4000))
    assert 1 <= returns <= 5
