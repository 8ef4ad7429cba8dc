"""Plain HTTP and event streams at nodes of one cluster, over NATS."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import kps
from tests.cluster.harness import Engine, clients, nodes, run
from tests.io.test_http import EventSource, ask

NAMES = ("n1", "n2", "n3")
HISTORY = [kps.History("kept/**", size=100)]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine()
    try:
        yield engine
    finally:
        engine.end()


async def post(node: kps.Server, target: str, body: bytes, key: str = "") -> Any:
    """Make a request to a node, in a thread, as the nodes are on this loop."""
    headers = {"Idempotency-Key": key} if key else {}
    return await asyncio.to_thread(ask, node.address, target, body, **headers)


async def listen(node: kps.Server, target: str) -> EventSource:
    return await asyncio.to_thread(EventSource, node.address, target)


async def hear(source: EventSource) -> Any:
    """The payload of the next message."""
    event = await asyncio.to_thread(source.next)
    assert event.kind == "message"
    return event.data["data"]


def test_what_is_posted_at_one_node_comes_to_streams_of_all(engine: Engine) -> None:
    async def work() -> None:
        async with nodes(engine.url, *NAMES) as made:
            sources = [await listen(node, "/sse?topic=t&pattern=u/*") for node in made]
            for number, node in enumerate(made):
                body = b"%d" % number
                receipt = await post(node, "/publish?topic=t&receipt=1", body)
                assert receipt == (200, {"delivered": 3})
                assert [await hear(source) for source in sources] == [number] * 3
            assert await post(made[0], "/publish?topic=u/1", b"9") == (204, None)
            assert [await hear(source) for source in sources] == [9] * 3
            for source in sources:
                source.close()

    run(work())


def test_a_client_of_another_node_answers(engine: Engine) -> None:
    async def work() -> None:
        async with nodes(engine.url, *NAMES) as made, clients(made[1]) as (client,):
            await client.subscribe("sum", lambda message: sum(message.data))
            for node in made:
                assert await post(node, "/request?topic=sum", b"[1, 2]") == (200, 3)
                status, told = await post(node, "/publish?topic=sum&ack=9", b"[3]")
                assert (status, told["responses"]) == (200, {"c0": {"success": True, "result": 3}})
                assert (await post(node, "/publish?to=nobody", b"1"))[0] == 404
                assert (await post(node, "/request?topic=nobody", b"1"))[0] == 404

    run(work())


@pytest.mark.parametrize("topic", ["kept/1", "kept/2", "kept/3"])
def test_a_stream_goes_on_at_another_node(engine: Engine, topic: str) -> None:
    async def work() -> None:
        async with nodes(engine.url, *NAMES, history=HISTORY) as made:
            publish = f"/publish?topic={topic}"
            source = await listen(made[0], f"/sse?topic={topic}")
            got = []
            for number in range(6):
                node, other = made[(number + 1) % 3], made[(number + 2) % 3]
                await post(other, publish, b"%d" % (2 * number))
                got.append(await hear(source))
                source.close()
                await post(other, publish, b"%d" % (2 * number + 1))
                await asyncio.to_thread(source.connect, node.address)
                got.append(await hear(source))
            source.close()
            assert got == list(range(12))

    run(work())


def test_a_message_that_is_sent_again_to_another_node_is_handled_once(engine: Engine) -> None:
    async def work() -> None:
        async with nodes(engine.url, *NAMES) as made, clients(made[1]) as (client,):
            paid: list[Any] = []

            def pay(message: kps.Message) -> str:
                paid.append(message.data)
                return f"paid {message.data}"

            await client.subscribe("pay", pay)
            for node in made:
                assert await post(node, "/request?topic=pay", b"7", "k") == (200, "paid 7")
            assert paid == [7]

    run(work())
