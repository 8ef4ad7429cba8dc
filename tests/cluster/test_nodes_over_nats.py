"""Three nodes are one server for their clients."""

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest

import kps
from kps.io_asyncio.nats_links import NatsLinks
from tests.cluster.harness import Engine, Node, clients, nodes, others, run, until


def echo(message: kps.Message) -> list[object]:
    return [message.sender, message.data]


def _is_gone(client: kps.Client) -> bool:
    return not client.is_connected


NAMES = ("n1", "n2", "n3")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine()
    try:
        yield engine
    finally:
        engine.end()


def test_all_nodes_know_each_other_when_they_have_started(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    meet = NatsLinks._meet

    async def meet_all(links: NatsLinks) -> None:
        await until(lambda: len(links.membership._heard) == 2)  # which may take its time
        await meet(links)

    async def work() -> None:
        monkeypatch.setattr(NatsLinks, "_meet", meet_all)
        made = [Node("127.0.0.1:0", id=name, cluster=engine.url) for name in NAMES]
        try:
            await asyncio.gather(*(node.start() for node in made))
            for node in made:
                assert others(node) == set(NAMES) - {node.id}
        finally:
            await asyncio.gather(*(node.stop(0.0) for node in made))

    run(work())


def test_publications_and_receipts(engine: Engine) -> None:
    async def work() -> None:
        async with nodes(engine.url, *NAMES) as made, clients(*made) as all_clients:
            streams = [await client.subscribe("a topic. With > and *") for client in all_clients]
            patterns = [await client.subscribe(kps.Pattern("a topic**")) for client in all_clients]
            for number, client in enumerate(all_clients):
                assert await client.publish_with_receipt("a topic. With > and *", number) == 3
            for stream in streams + patterns:
                got = [(await anext(stream)).data for _ in all_clients]
                assert got == [0, 1, 2]

    run(work())


def test_acks_name_who_answered_and_who_failed_on_any_node(engine: Engine) -> None:
    async def work() -> None:
        async with nodes(engine.url, *NAMES) as made, clients(*made) as (a, b, c):

            async def fail(message: kps.Message) -> None:
                raise ValueError("no disk")

            await b.subscribe("t", lambda message: "done")
            await c.subscribe("t", fail)
            ack = await a.publish_with_ack("t", 1, timeout=20.0, expect=["c1", "c2", "away"])
            responses = await ack.wait()
            assert responses["c1"].result == "done"
            assert responses["c2"].error is not None
            assert "no disk" in responses["c2"].error
            assert responses["away"].error == "absent"

    run(work())


def test_direct_messages_and_requests_find_their_client(engine: Engine) -> None:
    async def work() -> None:
        async with (
            nodes(engine.url, *NAMES) as made,
            clients(*made, on_id=echo) as all_clients,
        ):
            for asking in all_clients:
                for asked in all_clients:
                    answer = await asking.request_to_id(asked.id, 1, timeout=20.0)
                    assert answer == [asking.id, 1]
                with pytest.raises(kps.NobodyThere):
                    await asking.request_to_id("nobody", 1, timeout=20.0)

    run(work())


def test_the_later_of_two_clients_with_one_id_wins_on_any_node(engine: Engine) -> None:
    async def work() -> None:
        async with nodes(engine.url, *NAMES) as made, clients(made[0]) as (first,):
            for node in (made[1], made[2], made[0]):
                second = await kps.Client.connect(node.url, id="c0", reconnect=False)
                await until(partial(_is_gone, first))
                first = second
            await until(lambda: [len(node.clients()) for node in made] == [1, 0, 0])
            await first.close()

    run(work())


def test_a_group_has_members_on_all_nodes(engine: Engine) -> None:
    async def work() -> None:
        async with nodes(engine.url, *NAMES) as made, clients(*made, made[0]) as all_clients:
            *members, boss = all_clients
            all_at_once = asyncio.Barrier(3)

            async def job(message: kps.Message) -> None:
                await all_at_once.wait()

            for member in members:
                await member.subscribe("jobs", job, group="workers")
            acks = [await boss.publish_with_ack("jobs", one, timeout=20.0) for one in range(9)]
            done = [(await ack.wait())["workers of jobs"] for ack in acks]
            assert all(one.success for one in done)
            assert {one.client_id for one in done} == {"c0", "c1", "c2"}

    run(work())


def test_presence_on_all_nodes(engine: Engine) -> None:
    async def work() -> None:
        async with nodes(engine.url, *NAMES) as made, clients(*made) as (a, b, c):
            there: set[str] = set()

            def look(presence: kps.Presence) -> None:
                there.clear()
                there.update(presence.members or ())

            await a.subscribe("room", lambda message: None, presence=look)
            await b.subscribe("room", lambda message: None, info={"name": "Bea"})
            await c.subscribe("room", lambda message: None)
            await until(lambda: there == {"c0", "c1", "c2"})
            members = (await c.presence("room")).members
            assert members is not None
            assert members["c1"] == {"name": "Bea"}
            await b.close()
            await until(lambda: there == {"c0", "c2"})

    run(work())


def test_history_on_all_nodes(engine: Engine) -> None:
    async def work() -> None:
        history = [kps.History("kept/**", size=10)]
        async with (
            nodes(engine.url, *NAMES, history=history) as made,
            clients(*made) as all_clients,
        ):
            for number in range(12):
                await all_clients[number % 3].publish_with_receipt("kept/t", number)
            for client in all_clients:
                stream = await client.subscribe("kept/t", last=5)
                got = [await anext(stream) for _ in range(5)]
                assert [message.data for message in got] == [7, 8, 9, 10, 11]
                assert [message.offset for message in got] == [8, 9, 10, 11, 12]

    run(work())
