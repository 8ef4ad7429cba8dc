"""The engine and nodes that die, stand still, or are cut off."""

import asyncio
import contextlib
import json
import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

import kps
from kps.io_asyncio import nats_links
from tests.cluster.harness import (
    PATIENCE,
    SILENCE,
    Engine,
    Node,
    QuickNode,
    Served,
    all_meet,
    clients,
    nodes,
    others,
    reaches,
    run,
    until,
)
from tests.io.harness import Cable
from tests.ports import kept_address

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


async def works_across(made: list[kps.Client]) -> None:
    """Each client hears each other one, and knows it."""
    for client in made:
        await reaches(client, {client.id for client in made})


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
            await reaches(a, {"c1"})
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


async def probe(client: kps.Client) -> None:
    """Return when the node of the only subscriber has all that the node of a client has sent."""
    while await client.publish_with_receipt("probe", 1) != 1:
        pass  # it has not answered in time


def test_when_the_engine_dies_what_others_had_not_answered_is_told(engine: Engine) -> None:
    async def work() -> None:
        async with nodes(engine.url, *NAMES) as made, clients(*made) as (a, b, c):
            asked = asyncio.Barrier(3)

            async def never(client: kps.Client, message: kps.Message) -> None:
                await probe(client)  # behind which a's node knows that this client was asked
                await asked.wait()
                await asyncio.sleep(60)

            await a.subscribe("probe", lambda message: None)
            await b.subscribe("t", partial(never, b))
            await c.subscribe("t", partial(never, c))
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
        async with nodes(engine.url, *NAMES, kind=QuickNode) as made, clients(*made) as all_clients:
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
            nodes(engine.url, "n1", "n2", kind=QuickNode) as made,
            nodes(f"nats://{cable.address}", "n3", kind=QuickNode) as (apart,),
            clients(*made, apart) as all_clients,
        ):
            await all_meet([*made, apart])
            for client in all_clients:
                await client.subscribe("t", lambda message: None)
            cable.stalled = True
            await until(lambda: not others(apart) and "n3" not in others(made[0]))
            await reaches(all_clients[0], {"c0", "c1"})
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
            asked, over = asyncio.Event(), asyncio.Event()

            async def never(message: kps.Message) -> None:
                if message.data == "never":
                    await probe(c)  # behind which a's node knows that c was asked
                    asked.set()
                    await over.wait()

            await a.subscribe("probe", lambda message: None)
            await b.subscribe("t", lambda message: "done")
            await c.subscribe("t", never)
            await reaches(a, {"c1", "c2"})
            ack = await a.publish_with_ack("t", "never", timeout=50.0)
            await asked.wait()
            third.end()
            responses = await ack.wait()
            assert responses["c1"].result == "done"
            assert responses["c2"].error == "disconnected"
            over.set()
            await asyncio.to_thread(third.start)  # which meets the nodes of this loop
            await reaches(a, {"c1", "c2"})

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
            await reaches(all_clients[0], {"c0", "c1"})
            third.process.send_signal(signal.SIGCONT)
            await until(lambda: others(made[0]) == {"n2", "n3"} == others(made[1]) ^ {"n1", "n2"})
            await works_across(all_clients)

    try:
        run(work())
    finally:
        third.end()


def test_a_node_that_ends_is_gone_at_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        monkeypatch.setattr(nats_links, "_FAREWELL", PATIENCE)
        async with nodes(engine.url, "n1", "n2") as made:
            async with nodes(engine.url, "n3") as (third,):
                await all_meet([*made, third])
                began = asyncio.get_running_loop().time()
            await until(lambda: "n3" not in others(made[0]) | others(made[1]))
            assert asyncio.get_running_loop().time() - began < Node.silence / 2

    run(work())


def test_the_engine_has_taken_the_farewell_before_the_connection_ends(engine: Engine) -> None:
    """NATS may drop what it has not read by then; and a ping overtakes what waits to be written."""

    async def work() -> None:
        async with nodes(engine.url, "n1", "n2") as (first, _):
            client = first._driver._links._client  # type: ignore[attr-defined]
            before = client.stats["out_msgs"]
            calls: list[tuple[str, bool]] = []

            def note(name: str) -> None:
                call = getattr(client, name)

                async def noted(*args: Any) -> None:
                    calls.append((name, client.stats["out_msgs"] > before))
                    await call(*args)

                setattr(client, name, noted)

            note("flush")
            note("close")
            await first.stop(0.0)
            assert calls == [("flush", True), ("flush", True), ("close", True)]

    run(work())


# -- what is wrong from the beginning ---------------------------------------------------------


def test_a_second_server_with_the_id_of_a_node_does_not_start(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with nodes(engine.url, "n1"):
            monkeypatch.setattr(nats_links, "_SETTLE", PATIENCE)  # the first one may be slow to say
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
            await all_meet([made[3], *same])
            await until(lambda: "another cluster_secret" in caplog.text)
            assert others(same[0]) == {"n3"}
            assert [others(node) for node in made] == [set(), set(), set(), {"n4"}]

    run(work())


def test_without_an_engine_there_is_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_links, "_CONNECT", 1.0)

    async def work() -> None:
        node = Node("127.0.0.1:0", id="n1", cluster=f"nats://me:hidden@{kept_address()}")
        with pytest.raises(kps.ServerStartFailed, match=r"no engine at nats://127\.") as no:
            await node.start()
        assert "hidden" not in str(no.value)

    run(work())


async def does_not_start(why: str, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Check why a node does not start.

    It tries until its time is over. So that is short, unless a slow engine has not answered then.
    """
    for seconds in (1.5, 5.0, 15.0):
        monkeypatch.setattr(nats_links, "_CONNECT", seconds)
        with pytest.raises(kps.ServerStartFailed) as failure:
            await Node("127.0.0.1:0", id="n9", cluster=url).start()
        if re.search(why, str(failure.value)):
            return
    raise AssertionError(str(failure.value))


def test_an_engine_that_wants_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine("--user", "me", "--pass", "right")

    async def work() -> None:
        async with nodes(engine.url.replace("//", "//me:right@"), "n1", "n2") as made:
            assert others(made[0]) == {"n2"}
        url = engine.url.replace("//", "//me:wrong@")
        await does_not_start(r"(?i)authorization", monkeypatch, url)

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
        await does_not_start(r"certificate verify failed: [a-z ]+;", monkeypatch, url)

    try:
        run(work())
    finally:
        engine.end()


def test_an_engine_without_tls_gets_no_password(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        url = engine.url.replace("nats://", "tls://me:hidden@")
        await does_not_start("it offers no TLS", monkeypatch, url)

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


def test_a_start_that_is_cancelled_leaves_no_node(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with nodes(engine.url, "n1") as (first,):
            monkeypatch.setattr(nats_links, "_SETTLE", PATIENCE)  # so it does not end before
            second = Node("127.0.0.1:0", id="n2", cluster=engine.url)
            starting = asyncio.create_task(second.start())
            await until(lambda: others(first) == {"n2"})
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
            await until(lambda: not others(first))

    run(work())
