"""The bus as an application of ASGI, called as its servers do."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import kps
from kps.asgi import Bus, Known, Receive, Scope, Send
from kps.io_common.other_processes import sign_of_others
from tests.asgi.harness import Caller, turns, until

RESPONSES: dict[str, object] = {"websocket.http.response": {}}


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(within())


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that has no lifespan, as Django's."""
    if scope["type"] == "lifespan":
        raise ValueError("no lifespan")
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@pytest.mark.parametrize("name", ["address", "ssl", "tls_cert", "proxies", "workers"])
def test_it_has_no_options_of_a_server_that_listens(name: str) -> None:
    options: Any = {name: None}
    with pytest.raises(kps.InvalidArgument, match=f"no option {name}: "):
        Bus(**options)


def test_other_mistakes_in_its_options() -> None:
    text: Any = "localhost:9313"
    mistakes: list[tuple[Callable[[], Bus], str]] = [
        (lambda: Bus(text), "no address of its own"),
        (lambda: Bus(path="/x"), "path needs other_app"),
        (
            lambda: Bus(identify=lambda scope: "a", on_upgrade=lambda request: True),
            "takes the place",
        ),
    ]
    for make, says in mistakes:
        with pytest.raises(kps.InvalidArgument, match=says):
            make()
    bus = Bus()
    with pytest.raises(kps.InvalidState, match="server of the application"):
        bus.run()
    assert (bus.address, bus.url) == ("", "")


def test_calls_before_the_start_and_after_the_end_learn_what_to_do() -> None:
    bus = Bus()

    async def test() -> None:
        with pytest.raises(kps.InvalidState, match=r"lifespan=bus\.lifespan"):
            await bus.publish("t", 1)
        for _ in range(2):
            async with bus.lifespan():
                assert await bus.publish("t", 1) == 0
            with pytest.raises(kps.ServerStopped, match="it can start again"):
                await bus.publish("t", 1)

    run(test)


def test_it_starts_with_the_first_client_and_the_program_takes_part() -> None:
    bus = Bus(console=False)

    async def test() -> None:
        alice = await Caller(bus, "/bus/", root_path="/bus").connected("alice")
        (client,) = bus.clients()
        assert (client.id, client.address) == ("alice", "192.0.2.7:4711")
        alice.say(action="subscribe", topic="t")
        assert (await alice.hear())["action"] == "subscribed"
        assert await bus.publish("t", {"x": 1}) == 1
        assert (await alice.hear())["data"] == {"x": 1}
        ack = await bus.publish_with_ack("t", 2)
        alice.say(action="ack", ack_id=(await alice.hear())["ack_id"], success=True)
        assert (await ack.wait())["alice"].success
        async with bus.subscribe("up") as messages:
            alice.say(action="publish", topic="up", data="é")
            assert (await anext(messages)).data == "é"
        alice.give("websocket.receive", bytes=b'{"action":"ping","from":"alice"}')
        assert (await alice.hear())["action"] == "pong"
        await alice.end()
        assert bus.clients() == []
        await bus.stop()

    run(test)


def test_pages_below_its_place() -> None:
    bus = Bus(metrics=True)

    async def get(path: str, method: str = "GET") -> tuple[int, Any, bytes]:
        fields = {"root_path": "/a/bus", "query_string": b"q=1"}
        caller = Caller(bus, path, type="http", method=method, **fields)
        start, body = await caller.next(), await caller.next()
        await caller.task
        return start["status"], dict(start["headers"]), body["body"]

    async def test() -> None:
        status, headers, _ = await get("/a/bus")
        assert (status, headers[b"location"]) == (307, b"/a/bus/?q=1")
        status, _, page = await get("/a/bus/")
        assert (status, b'name="kps-path" content="."' in page) == (200, True)
        for path in ("/a/bus/kps.js", "/kps.js"):  # some frameworks take off the root path
            status, headers, body = await get(path)
            assert (status, headers[b"content-length"]) == (200, str(len(body)).encode())
        assert (await get("/a/bus/healthz"))[0] == 200
        assert (await get("/a/bus/kps.css"))[0] == 404
        assert (await get("/a/bus/metrics"))[0] == 403  # not from this machine
        status, _, body = await get("/a/bus/", method="HEAD")
        assert (status, body) == (200, b"")
        await bus.stop()

    run(test)


@pytest.mark.parametrize(
    ("bus", "place"),
    [
        (Bus(), ("/a/bus", "/a/bus")),
        (Bus(), ("/a/bus/", "/a/bus")),
        (Bus(nothing, path="/ws"), ("/ws", "")),
    ],
    ids=["mounted", "with a slash", "around"],
)
def test_a_page_of_another_origin_learns_why_it_may_not_connect(
    bus: Bus, place: tuple[str, str]
) -> None:
    path, root = place

    async def ask(origin: str) -> tuple[int, Any, bytes]:
        headers = [(b"host", b"app.example"), (b"origin", origin.encode())]
        fields = {"root_path": root, "headers": headers}
        caller = Caller(bus, path, type="http", method="GET", **fields)
        start, body = await caller.next(), await caller.next()
        await caller.task
        return start["status"], dict(start["headers"]), body["body"]

    async def test() -> None:
        status, headers, body = await ask("https://elsewhere.example")
        assert (status, headers[b"access-control-allow-origin"]) == (403, b"*")
        assert body.startswith(b"pages of https://elsewhere.example may not connect: ")
        status, headers, _ = await ask("https://app.example")
        assert status in (200, 307)
        assert b"access-control-allow-origin" not in headers
        await bus.stop()

    run(test)


def test_around_another_application() -> None:
    bus = Bus(nothing, path="/ws/bus")

    async def test() -> None:
        lifespan = Caller(bus, type="lifespan")
        lifespan.give("lifespan.startup")
        assert (await lifespan.next())["type"] == "lifespan.startup.complete"
        assert await bus.publish("t", 1) == 0  # it has started
        page = Caller(bus, "/ws/busy", type="http", method="GET")
        assert (await page.next())["status"] == 204
        await (await Caller(bus, "/ws/bus").connected("alice")).end()
        await (await Caller(bus, "/root/ws/bus", root_path="/root").connected("bob")).end()
        lifespan.give("lifespan.shutdown")
        assert (await lifespan.next())["type"] == "lifespan.shutdown.complete"
        await lifespan.task
        with pytest.raises(kps.ServerStopped):
            await bus.publish("t", 1)

    run(test)


def test_the_lifespan_of_another_application_is_around_that_of_the_bus() -> None:
    done: list[str] = []

    async def other(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        done.append(f"started, and {await bus.publish('t', 1)} heard")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        done.append(f"ends, and {await bus.publish('t', 1)} heard")
        await send({"type": "lifespan.shutdown.complete"})

    bus = Bus(other)

    async def test() -> None:
        caller = Caller(bus, type="lifespan")
        for step in ("startup", "shutdown"):
            caller.give(f"lifespan.{step}")
            assert (await caller.next())["type"] == f"lifespan.{step}.complete"
        await caller.task
        with pytest.raises(kps.ServerStopped):
            await bus.publish("t", 1)

    run(test)
    assert done == ["started, and 0 heard", "ends, and 0 heard"]


def test_it_starts_again_on_another_loop() -> None:
    bus = Bus()
    came: list[str] = []
    bus.on_id(lambda message: came.append(message.data))

    async def test() -> None:
        async with bus.lifespan():
            alice = await Caller(bus).connected("alice")
            alice.say(action="direct_message", to=bus.id, data="hello")
            await until(lambda: came)
            alice.task.cancel()

    async def without_an_end() -> None:
        (await Caller(bus).connected("alice")).task.cancel()

    for _ in range(2):
        run(test)
        came.clear()
        run(without_an_end)


def test_two_loops_at_a_time_are_refused() -> None:
    bus = Bus()
    told: list[str] = []

    def elsewhere() -> None:
        async def connect() -> None:
            with pytest.raises(kps.InvalidState) as caught:
                await Caller(bus).task
            told.append(str(caught.value))

        asyncio.run(connect())

    async def test() -> None:
        alice = await Caller(bus).connected("alice")
        await asyncio.to_thread(elsewhere)
        await (await Caller(bus).connected("bob")).end()
        await alice.end()
        await bus.stop()

    run(test)
    assert "one loop at a time" in told[0]


@pytest.mark.parametrize("extensions", [{}, RESPONSES])
@pytest.mark.parametrize(
    ("known", "status"),
    [(None, 401), (kps.HttpResponse.text(402, "pay"), 402), (42, 500)],
)
def test_whom_identify_refuses(known: Any, status: int, extensions: dict[str, Any]) -> None:
    bus = Bus(identify=lambda scope: known)

    async def test() -> None:
        caller = Caller(bus, extensions=extensions)
        caller.give("websocket.connect")
        answer = await caller.next()
        if extensions:
            assert (answer["type"], answer["status"]) == ("websocket.http.response.start", status)
            assert (await caller.next())["type"] == "websocket.http.response.body"
        else:
            assert answer["type"] == "websocket.close"
        await asyncio.wait_for(caller.task, 30)
        await bus.stop()

    run(test)


def test_whom_identify_knows() -> None:
    async def by_loop(scope: Scope) -> Known:
        return str(scope["user"])

    def in_thread(scope: Scope) -> Known:
        assert threading.current_thread() is not threading.main_thread()
        return kps.Identity(scope["user"], kps.Permissions(subscribe=()))

    async def test(identify: Any) -> None:
        bus = Bus(identify=identify, permissions=kps.Permissions.open())
        await (await Caller(bus, user="ann").connected("alice")).end()
        alice = await Caller(bus, user="ann").connected("alice")
        assert [client.name for client in bus.clients()] == ["ann"]
        alice.say(action="subscribe", topic="t")
        assert (await alice.hear())["action"] == ("subscribed" if identify is by_loop else "error")
        await alice.end()
        await bus.stop()

    for identify in (by_loop, in_thread):
        run(lambda identify=identify: test(identify))  # type: ignore[misc]


def test_a_user_whom_the_program_knows_already() -> None:
    bus = Bus(on_upgrade=lambda request: False)

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        await bus.admit(scope, receive, send, identity="ann")

    async def test() -> None:
        alice = await Caller(endpoint).connected("alice")
        assert [client.name for client in bus.clients()] == ["ann"]
        await alice.end()
        stranger = Caller(bus)
        stranger.give("websocket.connect")
        assert (await stranger.next())["type"] == "websocket.close"
        await bus.stop()

    run(test)


def test_identify_before_tokens() -> None:
    seen: list[str] = []

    def auth(token: str) -> kps.Identity:
        seen.append(token)
        return kps.Identity("service")

    bus = Bus(identify=lambda scope: scope.get("user"), auth=auth)

    async def test() -> None:
        one = await Caller(bus, user="ann").connected("one")
        headers = [(b"authorization", b"Bearer secret")]
        two = await Caller(bus, headers=headers).connected("two")
        assert {client.name for client in bus.clients()} == {"ann", "service"}
        for caller in (one, two):
            await caller.end()
        await bus.stop()

    run(test)
    assert seen == ["secret"]


def test_a_slow_client_gets_what_the_policy_leaves_it() -> None:
    limits = kps.ServerLimits(queue_messages=10, overflow=kps.Overflow.DROP_OLDEST)
    bus = Bus(limits=limits)

    async def test() -> None:
        alice = await Caller(bus).connected("alice")
        alice.say(action="subscribe", topic="t")
        assert (await alice.hear())["action"] == "subscribed"
        alice.room.clear()
        await bus.publish("t", -1)
        assert (await alice.hear())["data"] == -1  # the server of the application has taken it
        for number in range(100):
            await bus.publish("t", number)
        await turns()
        assert alice.sent.empty()
        alice.room.set()
        assert [(await alice.hear())["data"] for _ in range(10)] == list(range(90, 100))
        await alice.end()
        await bus.stop()

    run(test)


def test_a_client_that_cannot_be_written_to_any_more_is_gone() -> None:
    bus = Bus()

    async def test() -> None:
        alice = await Caller(bus).connected("alice")
        sends = 0

        async def failing(message: Any) -> None:
            nonlocal sends
            sends += 1
            if sends > 1:
                raise OSError("lost")

        given: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        given.put_nowait({"type": "websocket.connect"})
        given.put_nowait({"type": "websocket.receive", "text": '{"action":"ping","from":"carl"}'})
        scope: Scope = {"type": "websocket", "path": "/", "headers": []}
        await asyncio.wait_for(bus(scope, given.get, failing), 30)
        assert [client.id for client in bus.clients()] == ["alice"]
        await alice.end()
        await bus.stop()

    run(test)


@pytest.mark.parametrize(
    ("how", "is_there"),
    [
        ({"code": 1005}, True),  # uvicorn, of a dead socket
        ({}, True),
        ({"code": 1006}, True),  # Hypercorn, Daphne
        ({"code": 1005, "reason": ""}, False),  # uvicorn, of a close frame without a code
        ({"code": 1005, "reason": None}, False),
        ({"code": 1000}, False),
        ({"code": 1000, "reason": ""}, False),
    ],
)
def test_a_client_without_a_goodbye_stays_present_for_the_grace(
    how: dict[str, Any], is_there: bool
) -> None:
    limits = kps.ServerLimits(presence_grace=3600)
    bus = Bus(limits=limits)

    async def test() -> None:
        bob = await Caller(bus).connected("bob")
        bob.say(action="subscribe", topic="t", presence=True)
        assert (await bob.hear())["action"] == "subscribed"
        alice = await Caller(bus).connected("alice")
        alice.say(action="subscribe", topic="t")
        assert (await alice.hear())["action"] == "subscribed"
        alice.give("websocket.disconnect", **how)
        await asyncio.wait_for(alice.task, 30)
        assert ("alice" in (bus.presence("t").members or {})) is is_there
        await bob.end()
        await bus.stop()

    run(test)


def test_stopping_closes_the_clients() -> None:
    bus = Bus()

    async def test() -> None:
        alice = await Caller(bus).connected("alice")
        await bus.stop()
        closed = await alice.next()
        assert (closed["type"], closed["code"]) == ("websocket.close", 1001)
        await asyncio.wait_for(alice.task, 30)

    run(test)


@pytest.mark.parametrize(
    ("arguments", "environment", "is_child", "sign"),
    [
        ([], {}, False, ""),
        (["uvicorn", "a:b", "--workers", "2"], {}, True, "--workers 2"),
        (["gunicorn", "-w4"], {}, False, "-w 4"),
        (["gunicorn", "--workers=3"], {}, False, "--workers 3"),
        (["gunicorn", "--workers", "1"], {}, False, ""),
        ([], {"WEB_CONCURRENCY": "4"}, False, "WEB_CONCURRENCY=4"),
        ([], {"WEB_CONCURRENCY": "1"}, False, ""),
        (["uvicorn", "--reload"], {}, True, ""),
        (["/bin/hypercorn", "a:b"], {}, True, ""),
        (["/lib/hypercorn/__main__.py", "a:b"], {}, True, ""),
        (["hypercorn", "-w", "2", "a:b"], {}, True, "-w 2"),
        (["/bin/fastapi", "dev", "a.py"], {}, True, ""),
        (["/bin/fastapi", "run", "a.py"], {}, True, "it is a child of another process"),
        ([], {}, True, "it is a child of another process"),
        (["uvicorn", "--workers"], {}, False, ""),
    ],
)
def test_signs_of_other_processes(
    arguments: list[str], environment: dict[str, str], is_child: bool, sign: str
) -> None:
    assert sign_of_others(arguments, environment, is_child=is_child) == sign


def test_one_of_several_processes_is_told_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "2")

    async def test() -> None:
        async with Bus().lifespan():
            pass

    run(test)
    (line,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "clients of one process do not hear those of another" in line.getMessage()
    assert "WEB_CONCURRENCY=2" in line.getMessage()


def test_a_client_that_takes_nothing_does_not_keep_the_bus_from_stopping() -> None:
    bus = Bus()

    async def test() -> None:
        alice = await Caller(bus).connected("alice")
        alice.say(action="subscribe", topic="t")
        assert (await alice.hear())["action"] == "subscribed"
        alice.room.clear()
        for number in range(10):
            await bus.publish("t", number)
        await alice.next()  # of which nobody says that it has arrived
        await bus.stop(grace=0.05)
        async with asyncio.timeout(30):
            await alice.task

    run(test)


def test_a_client_that_takes_nothing_is_gone_in_time() -> None:
    limits = kps.ServerLimits(heartbeat_interval=0.1, heartbeat_timeout=0.1)
    bus = Bus(limits=limits)

    async def test() -> None:
        alice, idle = [await Caller(bus).connected(name) for name in ("alice", "idle")]
        alice.say(action="subscribe", topic="t")
        assert (await alice.hear())["action"] == "subscribed"
        alice.room.clear()
        while not alice.task.done():
            await bus.publish("t", 1)
            await asyncio.wait({alice.task}, timeout=0.01)
        assert [client.id for client in bus.clients()] == ["idle"]  # silence means nothing
        await idle.end()
        await bus.stop()

    run(test)


def test_a_client_is_not_heard_while_a_hook_decides() -> None:
    allowed = asyncio.Event()

    async def on_subscribe(_: kps.Subscribing) -> None:
        await allowed.wait()

    bus = Bus(on_subscribe=on_subscribe)

    async def test() -> None:
        alice = await Caller(bus).connected("alice")
        alice.say(action="subscribe", topic="t")
        for number in range(100):
            alice.say(action="publish", topic="t", data=number)
        await turns()
        assert alice.waiting > 90
        assert alice.sent.empty()
        allowed.set()
        assert (await alice.hear())["action"] == "subscribed"
        came: list[int] = []
        while len(came) < 100:
            message = await alice.hear()
            came += [message["data"]] if "data" in message else message["batch"]
        assert came == list(range(100))
        await alice.end()
        await bus.stop()

    run(test)


def test_a_client_that_leaves_while_a_hook_decides() -> None:
    is_asked, has_ended = asyncio.Event(), asyncio.Event()

    async def on_upgrade(request: kps.HttpRequest) -> bool:
        is_asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            has_ended.set()
        return True

    bus = Bus(on_upgrade=on_upgrade)

    async def test() -> None:
        alice = Caller(bus)
        alice.give("websocket.connect")
        await is_asked.wait()
        await alice.end()
        await has_ended.wait()
        assert bus._hub.connections == {}
        assert alice.sent.empty()
        await bus.stop()

    run(test)


def test_a_file_for_history_outlives_an_event_loop_that_went_without_an_end(tmp_path: Path) -> None:
    bus = Bus(history=[kps.History("t")], history_file=tmp_path / "history")
    found: list[list[object]] = []

    async def test() -> None:
        await (await Caller(bus).connected("alice")).end()
        await bus.publish("t", len(found))
        found.append([message.data for message in bus.history("t").messages])

    for _ in range(3):
        run(test)
    assert found == [[0], [0, 1], [0, 1, 2]]

    async def end() -> None:
        async with bus.lifespan():
            pass

    run(end)
