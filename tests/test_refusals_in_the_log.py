"""An operator learns of each refused token, id and origin: who, why, and never the token.

The same on both drivers, over HTTP, in a web application, and on a node of a cluster.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

import kps
import kps.sync
from kps.asgi import Bus
from tests.asgi.harness import PATIENCE, Caller, until
from tests.cluster.harness import Engine, nodes
from tests.io.raw import Raw, message

TOKEN, WRONG = "the-token-of-ann-0123456789", "a-token-of-nobody-0123456789"
ORIGIN = "https://evil.example"
ANN = kps.Identity("ann", kps.Permissions(ids=["ann-*"]))

Say = Callable[..., Awaitable[None]]
"""Sends a request to a server, ``say(path, headers, ping)``, and waits until it is refused."""


def judge(token: str) -> kps.Identity | None:
    return ANN if token == TOKEN else None


def over_sockets(address: str) -> Say:
    def ask(path: str, fields: dict[str, str], ping: dict[str, Any] | None) -> None:
        is_post = path != "/ws/bus"
        fields = {"Host": "bus.example", **fields}
        if is_post:
            fields |= {"Content-Length": "1", "Content-Type": "application/json"}
        else:
            fields |= {"Upgrade": "websocket", "Connection": "Upgrade"}
            fields |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
            fields |= {"Sec-WebSocket-Version": "13"}
        lines = [f"{'POST' if is_post else 'GET'} {path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        with Raw(address) as raw:
            raw.send("\r\n".join([*lines, "", "1" if is_post else ""]).encode())
            status = raw.status()
            if ping is None:
                assert status in (401, 403)
            else:
                assert status == 101
                raw.send(message("ping", **ping))
                assert raw.message()["action"] == "error"

    async def say(
        path: str = "/ws/bus", fields: Any = None, ping: dict[str, Any] | None = None
    ) -> None:
        await asyncio.to_thread(ask, path, fields or {}, ping)

    return say


def over_asgi(bus: Bus) -> Say:
    async def say(
        path: str = "/ws/bus", fields: Any = None, ping: dict[str, Any] | None = None
    ) -> None:
        headers = [(b"host", b"bus.example")]
        headers += [
            (name.lower().encode(), value.encode()) for name, value in (fields or {}).items()
        ]
        if path == "/ws/bus":
            caller = Caller(bus, headers=headers)
            caller.give("websocket.connect")
            answer = await caller.next()
            if ping is None:
                assert answer["type"] != "websocket.accept"
            else:
                assert answer["type"] == "websocket.accept"
                caller.say(action="ping", **ping)
                assert (await caller.hear())["action"] == "error"
        else:
            path, _, query = path.partition("?")
            headers.append((b"content-type", b"application/json"))
            caller = Caller(
                bus, path, type="http", method="POST", query_string=query.encode(), headers=headers
            )
            caller.give("http.request", body=b"1")
            assert (await caller.next())["status"] in (401, 403)
        await caller.end()

    return say


@contextlib.asynccontextmanager
async def on_asyncio(engine: Engine | None) -> AsyncIterator[Say]:
    async with kps.Server("127.0.0.1:0", auth=judge) as server:
        yield over_sockets(server.address)


@contextlib.asynccontextmanager
async def on_threads(engine: Engine | None) -> AsyncIterator[Say]:
    with kps.sync.Server("127.0.0.1:0", auth=judge) as server:
        yield over_sockets(server.address)


@contextlib.asynccontextmanager
async def in_an_application(engine: Engine | None) -> AsyncIterator[Say]:
    bus = Bus(auth=judge)
    async with bus.lifespan():
        yield over_asgi(bus)


@contextlib.asynccontextmanager
async def in_a_cluster(engine: Engine | None) -> AsyncIterator[Say]:
    assert engine is not None
    async with nodes(engine.url, "n1", "n2", auth=judge) as made:
        yield over_sockets(made[0].address)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine()
    try:
        yield engine
    finally:
        engine.end()


@pytest.mark.parametrize("carrier", [on_asyncio, on_threads, in_an_application, in_a_cluster])
def test_what_an_operator_learns(
    carrier: Any, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="kps")
    engine = request.getfixturevalue("engine") if carrier is in_a_cluster else None
    bearer = {"Authorization": f"Bearer {WRONG}"}
    right = {"Authorization": f"Bearer {TOKEN}"}

    def refusals() -> list[Any]:
        names = ("login_refused", "origin_refused")
        return [one for one in caplog.records if getattr(one, "event", "") in names]

    def told() -> list[tuple[str, ...]]:
        fields = {"login_refused": ("reason", "why"), "origin_refused": ("origin",)}
        return [(one.event, *(one.args[name] for name in fields[one.event])) for one in refusals()]

    invalid = ("login_refused", "the token is not valid", "")
    needed = ("login_refused", "a token is needed", "")
    bob = ("login_refused", "this client may not use this id", "the id 'bob', for 'ann'")

    async def main() -> None:
        async with asyncio.timeout(2 * PATIENCE), carrier(engine) as say:
            expected = []
            for path, fields, ping, line in (
                ("/ws/bus", bearer, None, invalid),
                ("/ws/bus", {}, {"from": "bob", "token": WRONG}, invalid),
                ("/ws/bus", {}, {"from": "bob"}, needed),
                ("/ws/bus", right, {"from": "bob"}, bob),
                ("/publish?topic=t", bearer, None, invalid),
                ("/publish?topic=t", {}, None, needed),
                ("/publish?topic=t", {"Origin": ORIGIN}, None, ("origin_refused", ORIGIN)),
                ("/ws/bus", {"Origin": ORIGIN + "2"}, None, ("origin_refused", ORIGIN + "2")),
            ):
                await say(path, fields, ping)
                expected.append(line)
                await until(lambda: len(told()) >= len(expected))
                assert told() == expected

    asyncio.run(main())
    lines = json.dumps([record.getMessage() for record in caplog.records])
    assert WRONG not in lines
    assert TOKEN not in lines
    for one in refusals():
        assert one.levelno == logging.WARNING
        assert one.args["address"].rpartition(":")[2].isdecimal()


def test_an_id_of_another_client_of_the_cluster(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Its home, which may be another node, knows whose it is."""
    caplog.set_level(logging.WARNING, logger="kps")

    def name(token: str) -> kps.Identity:
        return kps.Identity(token)

    async def main() -> None:
        async with asyncio.timeout(2 * PATIENCE), nodes(engine.url, "n1", "n2", auth=name) as made:
            async with kps.Client(made[0].address, id="x", token="ann"):
                with pytest.raises(kps.ServerError, match="belongs to another client"):
                    await kps.Client.connect(made[1].address, id="x", token="ben")

    asyncio.run(main())
    said = [record.getMessage() for record in caplog.records]
    reason = "this id belongs to another client (the id 'x', for 'ben')"
    assert [line.endswith(reason) for line in said if "refused a login" in line] == [True]
