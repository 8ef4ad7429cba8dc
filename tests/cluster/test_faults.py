"""The engine and nodes that die, stand still, or are cut off."""

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

import kps
from kps.io_asyncio import nats_links
from tests.cluster.harness import (
    SILENCE,
    Engine,
    Node,
    Served,
    clients,
    nodes,
    others,
    run,
    until,
)
from tests.io.harness import Cable

NAMES = ("n1", "n2", "n3")


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    try:
        yield engine
    finally:
        engine.end()


@pytest.fixture
def cable(engine: Engine) -> Iterator[Cable]:
    """What a node is connected to the engine with."""
    cable = Cable(engine.address)
    try:
        yield cable
    finally:
        cable.close()


async def all_meet(made: list[kps.Server]) -> None:
    for node in made:
        await until(partial(_knows, node, made))


def _knows(node: kps.Server, made: list[kps.Server]) -> bool:
    return others(node) == {other.id for other in made} - {node.id}


async def works_across(made: list[kps.Client]) -> None:
    """Each client hears each other one, and knows it."""
    names = {client.id for client in made}
    for client in made:
        reached: set[str] = set()
        while reached != names:  # on a slow machine, a node may hear of a subscription later
            await client.flush()
            ack = await client.publish_with_ack("t", 1, timeout=20.0)
            reached = {name for name, one in (await ack.wait()).items() if one.success}


def test_while_the_engine_is_away_each_node_serves_its_own_clients(engine: Engine) -> None:
    async def work() -> None:
        async with nodes(engine.url, *NAMES) as made, clients(*made) as all_clients:
            for client in all_clients:
                await client.subscribe("t", lambda message: None)
            await works_across(all_clients)
            engine.end()
            await until(lambda: not any(map(others, made)))
            for client in all_clients:
                assert await client.publish_with_receipt("t", "here") == 1
            assert await health_of(made[0]) == (200, "degraded")
            engine.start()
            await all_meet(made)
            await works_across(all_clients)
            while await health_of(made[0]) != (200, "ok"):
                await asyncio.sleep(0.01)

    run(work())


def test_a_node_may_refuse_to_serve_without_the_engine(engine: Engine) -> None:
    async def work() -> None:
        async with (
            nodes(engine.url, "n1", "n2", without_engine="refuse") as made,
            clients(*made) as (a, b),
        ):
            await b.subscribe("t", lambda message: None)
            engine.end()
            await until(lambda: not a.is_connected and not b.is_connected)
            assert await health_of(made[0]) == (503, "degraded")
            engine.start()
            await until(lambda: a.is_connected and b.is_connected)
            await b.flush()
            assert await a.publish_with_receipt("t", 1) == 1
            assert await health_of(made[0]) == (200, "ok")

    run(work())


async def health_of(node: kps.Server) -> tuple[int, str]:
    """The status, and what it is called, of a node that says how it is."""
    host, _, port = node.address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), json.loads(body)["status"]


def test_when_the_engine_dies_what_others_had_not_answered_is_told(engine: Engine) -> None:
    async def work() -> None:
        async with nodes(engine.url, *NAMES) as made, clients(*made) as (a, b, c):
            asked = asyncio.Barrier(3)

            async def never(message: kps.Message) -> None:
                await asked.wait()
                await asyncio.sleep(60)

            await b.subscribe("t", never)
            await c.subscribe("t", never)
            ack = await a.publish_with_ack("t", 1, timeout=50.0)
            await asked.wait()
            engine.end()
            responses = await ack.wait()
            assert {name: one.error for name, one in responses.items()} == dict.fromkeys(
                ["c1", "c2"], "disconnected"
            )

    run(work())


def test_an_engine_that_stands_still(engine: Engine) -> None:
    async def work() -> None:
        async with nodes(engine.url, *NAMES) as made, clients(*made) as all_clients:
            for client in all_clients:
                await client.subscribe("t", lambda message: None)
            engine.send(signal.SIGSTOP)
            await until(lambda: not any(map(others, made)))
            assert await all_clients[0].publish_with_receipt("t", "here") == 1
            engine.send(signal.SIGCONT)
            await all_meet(made)
            await works_across(all_clients)

    run(work())


def test_a_short_pause_of_the_engine_loses_nothing(engine: Engine) -> None:
    async def work() -> None:
        async with nodes(engine.url, "n1", "n2") as made, clients(*made) as (a, b):
            stream = await b.subscribe("t")
            await a.publish("t", 0)
            assert (await anext(stream)).data == 0
            engine.send(signal.SIGSTOP)
            for number in range(1, 500):
                await a.publish("t", number)
            await asyncio.sleep(SILENCE / 4)
            engine.send(signal.SIGCONT)
            got = [(await anext(stream)).data for _ in range(1, 500)]
            assert got == list(range(1, 500))
            assert others(made[0]) == {"n2"}

    run(work())


def test_a_node_that_is_cut_off_from_the_engine(engine: Engine, cable: Cable) -> None:
    """Its clients are gone for the others, and there again later; ids stay unique."""

    async def work() -> None:
        async with (
            nodes(engine.url, "n1", "n2") as made,
            nodes(f"nats://{cable.address}", "n3") as (apart,),
            clients(*made, apart) as all_clients,
        ):
            for client in all_clients:
                await client.subscribe("t", lambda message: None)
            cable.stalled = True
            await until(lambda: not others(apart) and "n3" not in others(made[0]))
            ack = await all_clients[0].publish_with_ack("t", 1, timeout=20.0)
            assert set(await ack.wait()) == {"c0", "c1"}
            # While they do not see each other, both sides give the same id.
            here = await kps.Client.connect(made[0].url, id="x", reconnect=False)
            there = await kps.Client.connect(apart.url, id="x", reconnect=False)
            cable.stalled = False
            cable.cut()
            await all_meet([*made, apart])
            await until(lambda: here.is_connected != there.is_connected)
            await works_across(all_clients)
            await here.close()
            await there.close()

    run(work())


def test_a_node_that_is_killed(engine: Engine) -> None:
    """What its clients had not answered is told at once, by name, and they come back."""
    third = Served(engine.url, "n3")

    async def work() -> None:
        async with (
            nodes(engine.url, "n1", "n2", kind=kps.Server) as made,
            clients(made[0], made[1], third.url) as (a, b, c),
        ):
            asked = asyncio.Event()

            async def never(message: kps.Message) -> None:
                if message.data == "never":
                    await c.publish_with_receipt("probe", 1)  # behind which a's node knows of c
                    asked.set()
                    await asyncio.sleep(60)

            await a.subscribe("probe", lambda message: None)
            await b.subscribe("t", lambda message: "done")
            await c.subscribe("t", never)
            ack = await a.publish_with_ack("t", "never", timeout=50.0)
            await asked.wait()
            third.end()
            responses = await ack.wait()
            assert responses["c1"].result == "done"
            assert responses["c2"].error == "disconnected"
            third.start()
            await until(lambda: c.is_connected)
            while set(await (await a.publish_with_ack("t", 2)).wait()) != {"c1", "c2"}:
                await c.flush()  # on a slow machine, n1 may hear of its subscription later

    try:
        run(work())
    finally:
        third.end()


def test_a_node_that_stands_still_is_let_go_and_comes_back(engine: Engine) -> None:
    third = Served(engine.url, "n3")

    async def work() -> None:
        async with (
            nodes(engine.url, "n1", "n2", kind=kps.Server) as made,
            clients(made[0], made[1], third.url) as all_clients,
        ):
            for client in all_clients:
                await client.subscribe("t", lambda message: None)
            third.process.send_signal(signal.SIGSTOP)
            await until(lambda: others(made[0]) == {"n2"} and others(made[1]) == {"n1"})
            ack = await all_clients[0].publish_with_ack("t", 1, timeout=20.0)
            assert set(await ack.wait()) == {"c0", "c1"}
            third.process.send_signal(signal.SIGCONT)
            await until(lambda: others(made[0]) == {"n2", "n3"} == others(made[1]) ^ {"n1", "n2"})
            await works_across(all_clients)

    try:
        run(work())
    finally:
        third.end()


def test_a_node_that_ends_is_gone_at_once(engine: Engine) -> None:
    async def work() -> None:
        async with nodes(engine.url, "n1", "n2") as made:
            config = made[0]._driver._cluster_config  # type: ignore[attr-defined]
            async with nodes(engine.url, "n3"):
                await all_meet_with(made, "n3")
                began = asyncio.get_running_loop().time()
            await until(lambda: "n3" not in others(made[0]) | others(made[1]))
            assert asyncio.get_running_loop().time() - began < config.patience

    run(work())


async def all_meet_with(made: list[kps.Server], name: str) -> None:
    await until(lambda: all(name in others(node) for node in made))


# -- what is wrong from the beginning ---------------------------------------------------------


def test_a_second_server_with_the_id_of_a_node_does_not_start(engine: Engine) -> None:
    async def work() -> None:
        async with nodes(engine.url, "n1"):
            second = Node("127.0.0.1:0", id="n1", cluster=engine.url)
            with pytest.raises(kps.ServerStartFailed, match="has a server with the id n1"):
                await second.start()

    run(work())


def test_nodes_with_another_name_or_secret_are_strangers(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        async with contextlib.AsyncExitStack() as stack:
            options: list[dict[str, Any]] = [
                {},
                {"cluster_name": "other"},
                {"cluster_secret": "one secret of nodes"},
                {"cluster_secret": "two secrets of nodes"},
            ]
            made = [
                (await stack.enter_async_context(nodes(engine.url, f"n{number}", **one)))[0]
                for number, one in enumerate(options)
            ]
            same = await stack.enter_async_context(
                nodes(engine.url, "n4", cluster_secret="two secrets of nodes")
            )
            assert others(same[0]) == {"n3"}
            assert [others(node) for node in made] == [set(), set(), set(), {"n4"}]

    run(work())
    assert "another cluster_secret" in caplog.text


def test_without_an_engine_there_is_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_links, "_CONNECT", 1.0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"nats://me:hidden@127.0.0.1:{unused.getsockname()[1]}"

        async def work() -> None:
            node = Node("127.0.0.1:0", id="n1", cluster=url)
            with pytest.raises(kps.ServerStartFailed, match=r"no engine at nats://127\.") as no:
                await node.start()
            assert "hidden" not in str(no.value)

        run(work())


def test_an_engine_that_wants_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine("--user", "me", "--pass", "right")

    async def work() -> None:
        async with nodes(engine.url.replace("//", "//me:right@"), "n1", "n2") as made:
            assert others(made[0]) == {"n2"}
        monkeypatch.setattr(nats_links, "_CONNECT", 2.0)
        node = Node("127.0.0.1:0", id="n1", cluster=engine.url.replace("//", "//me:wrong@"))
        with pytest.raises(kps.ServerStartFailed, match=r"(?i)authorization"):
            await node.start()

    try:
        run(work())
    finally:
        engine.end()


def test_an_engine_with_a_certificate_of_a_private_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    cert, key, ca = (tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem"))
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    engine = Engine("--tls", "--tlscert", str(cert), "--tlskey", str(key))
    url = engine.url.replace("nats:", "tls:")

    async def work() -> None:
        async with nodes(url, "n1", "n2", cluster_ca=ca) as (first, _):
            assert others(first) == {"n2"}
        monkeypatch.setattr(nats_links, "_CONNECT", 2.0)
        distrustful = Node("127.0.0.1:0", id="n3", cluster=url)
        with pytest.raises(kps.ServerStartFailed, match=r"certificate verify failed: [a-z ]+;"):
            await distrustful.start()

    try:
        run(work())
    finally:
        engine.end()


def test_an_engine_without_tls_gets_no_password(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_links, "_CONNECT", 2.0)

    async def work() -> None:
        url = engine.url.replace("nats://", "tls://me:hidden@")
        node = Node("127.0.0.1:0", id="n1", cluster=url)
        with pytest.raises(kps.ServerStartFailed, match="it offers no TLS"):
            await node.start()

    run(work())


@pytest.mark.parametrize(("name", "length"), [("n", 1001), ("é", 167)])
def test_the_name_of_a_node_is_not_too_long_for_a_subject(name: str, length: int) -> None:
    async def work() -> None:
        limits = kps.ServerLimits(max_id=2000)
        node = Node("127.0.0.1:0", id=name * length, cluster="nats://127.0.0.1:1", limits=limits)
        with pytest.raises(kps.ServerStartFailed, match="the id of a node"):
            await node.start()

    run(work())


def test_a_node_that_may_not_use_its_subjects_does_not_start(tmp_path: Path) -> None:
    rights = 'permissions: {publish: "other.>", subscribe: "other.>"}'
    users = f"users: [{{user: me, password: right, {rights}}}]"
    (tmp_path / "nats.conf").write_text(f"authorization {{{users}}}")
    engine = Engine("-c", str(tmp_path / "nats.conf"))

    async def work() -> None:
        url = engine.url.replace("//", "//me:right@")
        node = Node("127.0.0.1:0", id="n1", cluster=url)
        try:
            with pytest.raises(kps.ServerStartFailed, match=r"(?i)permissions.*kps\.kps\.>"):
                await node.start()
        finally:
            await node.stop()

    try:
        run(work())
    finally:
        engine.end()


def test_a_start_that_is_cancelled_leaves_no_node(engine: Engine) -> None:
    async def work() -> None:
        async with nodes(engine.url, "n1") as (first,):
            second = Node("127.0.0.1:0", id="n2", cluster=engine.url)
            starting = asyncio.create_task(second.start())
            await until(lambda: others(first) == {"n2"})
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
            await until(lambda: not others(first))

    run(work())
