"""Requests to the bus over HTTP, when it is mounted in an application."""

import asyncio
import contextlib
import http.client
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

import kps
from kps.asgi import Bus
from tests.asgi.harness import PATIENCE, Caller, program, served, turns, until
from tests.asgi.test_bus import run
from tests.event_source import Event, EventReader


def call(bus: Bus, method: str, path: str, query: str = "", **changed: Any) -> Caller:
    headers = [(b"host", b"bus.example"), *changed.pop("headers", ())]
    return Caller(
        bus,
        path,
        type="http",
        method=method,
        query_string=query.encode(),
        headers=headers,
        **changed,
    )


async def answer_to(caller: Caller) -> tuple[int, Any]:
    start = await caller.next()
    body = b""
    while (part := await caller.next()).get("more_body"):
        body += part["body"]
    body += part["body"]
    await caller.task
    return start["status"], json.loads(body) if body.startswith(b"{") else body


@contextlib.asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Bus]:
    bus = Bus(**options)
    async with bus.lifespan(None):
        yield bus


def test_a_publication_in_parts() -> None:
    async def test() -> None:
        async with running() as bus:
            got: list[Any] = []
            await bus.subscribe("news", lambda message: got.append(message.data))
            caller = call(bus, "POST", "/publish", "topic=news&receipt=1")
            for part in (b'{"a"', b":", b"1"):
                caller.give("http.request", body=part, more_body=True)
            caller.give("http.request", body=b"}")
            assert await answer_to(caller) == (200, {"delivered": 1})
            await until(lambda: got == [{"a": 1}])

    run(test)


def test_a_body_waits_for_the_verdict_of_a_hook() -> None:
    async def test() -> None:
        is_asked, verdict = asyncio.Event(), asyncio.Event()

        async def identify(scope: Any) -> str:
            is_asked.set()
            await verdict.wait()
            return "ann"

        async with running(identify=identify) as bus:
            senders: list[str] = []
            await bus.subscribe("news", lambda message: senders.append(message.sender))
            caller = call(bus, "POST", "/publish", "topic=news&receipt=1")
            caller.give("http.request", body=b"1")
            await is_asked.wait()
            await turns()
            assert caller.waiting == 1
            verdict.set()
            assert await answer_to(caller) == (200, {"delivered": 1})
            await until(lambda: senders == ["http:ann"])

    run(test)


def test_a_body_that_is_too_large_is_refused_before_it_has_come() -> None:
    async def test() -> None:
        async with running(limits=kps.ServerLimits(max_message=1000)) as bus:
            caller = call(bus, "POST", "/publish", "topic=news")
            caller.give("http.request", body=b"1" * 2000, more_body=True)
            status, refusal = await answer_to(caller)
            assert (status, refusal["code"]) == (413, "too_large")

    run(test)


def test_a_client_that_goes_in_the_middle_of_its_body() -> None:
    async def test() -> None:
        async with running() as bus:
            caller = call(bus, "POST", "/publish", "topic=news")
            caller.give("http.request", body=b"1", more_body=True)
            caller.give("http.disconnect")
            async with asyncio.timeout(PATIENCE):
                await caller.task
            assert caller.sent.empty()
            assert bus._hub.stats.published == 0

    run(test)


def test_a_stream_goes_on_until_the_client_has_gone() -> None:
    async def test() -> None:
        async with running() as bus:
            caller = call(bus, "GET", "/sse", "topic=news&id=page")
            caller.give("http.request")
            start = await caller.next()
            assert (start["status"], dict(start["headers"])[b"content-type"]) == (
                200,
                b"text/event-stream",
            )
            await until(lambda: len(bus.clients()) == 1)
            await bus.publish("news", "hello")
            reader, events = EventReader(), list[Event]()
            while not any(event.kind == "message" for event in events):
                events += reader.feed((await caller.next())["body"])
            assert events[-1].data["data"] == "hello"
            caller.give("http.disconnect")
            async with asyncio.timeout(PATIENCE):
                await caller.task
            await until(lambda: not bus.clients())

    run(test)


def test_a_redirect_has_only_what_a_header_may_have() -> None:
    async def test() -> None:
        async with running() as bus:
            place = {"root_path": "/bus", "raw_path": b"/bus", "query_string": b"a=\xe9 \n"}
            caller = Caller(bus, "/bus", type="http", method="GET", **place)
            caller.give("http.request")
            start = await caller.next()
            location = dict(start["headers"])[b"location"]
            assert (start["status"], location) == (307, b"/bus/?a=%E9%20%0A")
            await caller.next()
            await caller.task

    run(test)


def test_the_head_of_a_stream_tells_no_length() -> None:
    async def test() -> None:
        async with running() as bus:
            for path, has_length in (("/sse", False), ("/kps.js", True)):
                caller = call(bus, "HEAD", path, "topic=news")
                caller.give("http.request")
                start = await caller.next()
                assert start["status"] == 200
                assert (b"content-length" in dict(start["headers"])) is has_length
                assert await caller.next() == {"type": "http.response.body", "body": b""}
                await caller.task

    run(test)


def test_a_stream_ends_when_the_server_fails_to_tell_of_its_client() -> None:
    async def test() -> None:
        async with running() as bus:
            caller = call(bus, "GET", "/sse", "topic=news")
            caller.give("http.request")
            await caller.next()
            caller.give_failure(RuntimeError("a fault of the server"))
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(RuntimeError, match="a fault of the server"):
                    await caller.task
            assert not bus.clients()

    run(test)


def test_a_client_that_takes_nothing_of_its_stream_is_let_go() -> None:
    async def test() -> None:
        limits = kps.ServerLimits(
            queue_bytes=20_000, close_timeout=0.2, overflow=kps.Overflow.CLOSE
        )
        async with running(limits=limits) as bus:
            caller = call(bus, "GET", "/sse", "topic=news")
            caller.give("http.request")
            caller.room.clear()
            await until(lambda: len(bus.clients()) == 1)
            for number in range(100):
                await bus.publish("news", [number, "x" * 1000])
                await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE):
                await caller.task
            assert not bus.clients()

    run(test)


def test_a_stream_does_not_keep_uvicorn_from_stopping() -> None:
    for name in ("uvicorn", "fastapi"):
        pytest.importorskip(name)
    command = "-m", "uvicorn", "--port", "0", "--ws", "wsproto", "examples.fastapi_bus:app"
    with program(*command, says="running on http://") as address:
        connection = http.client.HTTPConnection(address, timeout=PATIENCE)
        connection.request("GET", "/bus/sse?topic=votes")
        stream = connection.getresponse()
        assert stream.status == 200
        reader = EventReader()
        reader.feed(stream.read1())
    (end,) = reader.feed(stream.read())
    assert (end.kind, end.data["code"]) == ("end", 1001)
    connection.close()


def test_with_a_real_server() -> None:
    starlette = pytest.importorskip("starlette.applications")
    routing = pytest.importorskip("starlette.routing")
    httpx = pytest.importorskip("httpx")
    bus = Bus()
    app = starlette.Starlette(routes=[routing.Mount("/bus", app=bus)], lifespan=bus.lifespan)
    with (
        served(app) as address,
        httpx.Client(base_url=f"http://{address}/bus", timeout=PATIENCE) as client,
        client.stream("GET", "/sse", params={"topic": "news"}) as stream,
    ):
        parts, reader, events = stream.iter_raw(), EventReader(), list[Event]()
        reader.feed(next(parts))
        published = client.post("/publish", params={"topic": "news", "receipt": 1}, json={"n": 1})
        assert published.json() == {"delivered": 1}
        while not any(event.kind == "message" for event in events):
            events += reader.feed(next(parts))
        assert events[-1].data["data"] == {"n": 1}
