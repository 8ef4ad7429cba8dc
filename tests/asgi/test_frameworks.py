"""The bus in real frameworks, on real servers, with real clients."""

import asyncio
import http.client
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import kps
import kps.sync
from kps.asgi import Bus
from tests.asgi.harness import PATIENCE, ROOT, program, served

pytest.importorskip("uvicorn")


def on_fastapi(bus: Bus) -> Any:
    fastapi = pytest.importorskip("fastapi")
    app = fastapi.FastAPI(lifespan=bus.lifespan)
    app.mount("/bus", bus)

    async def publish() -> dict[str, int]:
        return {"heard": await bus.publish("news", "of the framework")}

    app.get("/publish")(publish)
    return app


def on_starlette(bus: Bus) -> Any:
    applications = pytest.importorskip("starlette.applications")
    from starlette.responses import JSONResponse
    from starlette.routing import Mount, Route

    async def publish(request: Any) -> Any:
        return JSONResponse({"heard": await bus.publish("news", "of the framework")})

    routes = [Route("/publish", publish), Mount("/bus", bus)]
    return applications.Starlette(routes=routes, lifespan=bus.lifespan)


def on_litestar(bus: Bus) -> Any:
    litestar = pytest.importorskip("litestar")

    async def publish() -> dict[str, int]:
        return {"heard": await bus.publish("news", "of the framework")}

    place = litestar.asgi("/bus", is_mount=True, copy_scope=True)(bus.__call__)
    return litestar.Litestar([litestar.get("/publish")(publish), place], lifespan=[bus.lifespan])


def on_quart(bus: Bus) -> Any:
    quart = pytest.importorskip("quart")
    app = quart.Quart(__name__)

    async def publish() -> dict[str, int]:
        return {"heard": await bus.publish("news", "of the framework")}

    app.get("/publish")(publish)
    return app


def around(make: Callable[[Bus], Any]) -> Callable[[Bus], Any]:
    """Put the bus around the application, in place of within it."""

    def made(_: Bus) -> Any:
        async def later(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)

        bus = Bus(later, path="/bus")
        app = make(bus)
        return bus

    return made


def ask(
    address: str, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """Make a request; return the status of the answer, its body, and its headers."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().strip(), answer.headers
    finally:
        connection.close()


def get(address: str, path: str, **headers: str) -> tuple[int, bytes]:
    return ask(address, "GET", path, None, **headers)[:2]


def post(address: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
    """Post JSON; return the status, and what came."""
    headers = {"Content-Type": "application/json", **headers}
    status, text, _ = ask(address, "POST", path, body, **headers)
    return status, json.loads(text) if text else None


def settle(client: kps.sync.Client) -> None:
    """Wait until the bus has heard all that a client has said."""
    assert client.publish_with_ack("nobody listens here", 1).wait() == {}


def users(bus: Bus) -> list[tuple[str, str]]:
    """The ids and names of the clients, seen from the thread of the test."""
    return [(one.id, one.name) for one in bus._hub.directory.all(0.0)]


def take_part(address: str) -> None:
    """Use the bus of an application, from outside and by its own pages."""
    url = f"ws://{address}/bus/"
    with kps.sync.Client(url, id="alice") as alice, kps.sync.Client(url, id="bob") as bob:
        news = alice.subscribe("news")
        alice.subscribe("asked", lambda message: message.data * 2)
        settle(alice)
        ack = bob.publish_with_ack("asked", 21)
        assert ack.wait()["alice"].result == 42
        assert get(address, "/publish") == (200, b'{"heard":1}')
        bob.publish("news", "x" * 70_000)
        assert [next(news).data for _ in range(2)] == ["of the framework", "x" * 70_000]
    assert get(address, "/bus/kps.js")[0] == 200
    assert b'name="kps-path" content="."' in get(address, "/bus/")[1]


FRAMEWORKS = {
    "fastapi": on_fastapi,
    "starlette": on_starlette,
    "litestar": on_litestar,
    "around fastapi": around(on_fastapi),
    "around quart": around(on_quart),
}


@pytest.mark.parametrize("ws", ["wsproto", "websockets-sansio"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_with_uvicorn(framework: str, ws: str) -> None:
    with served(FRAMEWORKS[framework](Bus()), ws=ws) as address:
        take_part(address)


def test_a_framework_that_starts_nothing() -> None:
    fastapi = pytest.importorskip("fastapi")
    bus = Bus()
    app = fastapi.FastAPI()
    app.mount("/bus", bus)
    with served(app) as address, kps.sync.Client(f"ws://{address}/bus/x", id="alice") as alice:
        assert (alice.id, alice.is_connected) == ("alice", True)


def test_under_a_root_path() -> None:
    with served(on_fastapi(Bus()), root_path="/api") as address:
        take_part(address)


def test_the_address_of_a_client_and_how_it_is_refused() -> None:
    pytest.importorskip("fastapi")
    seen: list[str] = []

    def identify(scope: Any) -> str | None:
        seen.append(scope["client"][0])
        return dict(scope["headers"]).get(b"x-user", b"").decode() or None

    bus = Bus(identify=identify)
    with served(on_fastapi(bus)) as address:
        url = f"ws://{address}/bus/"
        headers = {"X-User": "ann", "X-Forwarded-For": "192.0.2.9"}
        with kps.sync.Client(url, id="alice", headers=headers):
            assert users(bus) == [("alice", "ann")]
        with pytest.raises(kps.ConnectFailed, match="401"):
            kps.sync.Client.connect(url, reconnect=False)
    assert seen == ["192.0.2.9", "127.0.0.1"]


def test_starlettes_test_client() -> None:
    pytest.importorskip("httpx")
    testclient = pytest.importorskip("starlette.testclient")
    bus = Bus()
    app = on_starlette(bus)
    for _ in range(2):  # each time on another event loop
        with testclient.TestClient(app) as client:
            with client.websocket_connect("/bus/") as socket:
                socket.send_json({"action": "ping", "from": "alice", "proto": 2})
                assert socket.receive_json()["action"] == "pong"
                socket.send_json({"action": "subscribe", "topic": "news"})
                assert socket.receive_json()["action"] == "subscribed"
                assert client.get("/publish").json() == {"heard": 1}
                assert socket.receive_json()["data"] == "of the framework"
            assert client.get("/bus").status_code == 200  # it follows to the page
    with pytest.raises(testclient.WebSocketDenialResponse) as refused:
        headers = {"origin": "https://elsewhere.example"}
        with testclient.TestClient(app) as client:
            client.websocket_connect("/bus/", headers=headers).__enter__()
    assert refused.value.status_code == 403


def test_with_the_protocol_of_uvicorn() -> None:
    module = importlib.import_module("kps.uvicorn")
    from fastapi import WebSocket
    from websockets.sync.client import connect

    seen: list[str] = []

    def identify(scope: Any) -> str:
        seen.append(scope["client"][0])
        return str(dict(scope["headers"])[b"x-user"], "ascii")

    bus = Bus(identify=identify)
    app = on_fastapi(bus)

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())

    app.websocket("/echo")(echo)
    headers = {"X-User": "ann", "X-Forwarded-For": "192.0.2.9"}
    with served(app, ws=module.protocol(bus, "/bus")) as address:
        url = f"ws://{address}/bus/?a=b"
        with kps.sync.Client(url, id="alice", headers=headers) as alice:
            connections = list(bus._driver.connections)
            assert [type(one).__name__ for one in connections] == ["CarriedConnection"]
            news = alice.subscribe("news")
            settle(alice)
            assert get(address, "/publish") == (200, b'{"heard":1}')
            assert next(news).data == "of the framework"
        with connect(f"ws://{address}/echo") as socket:
            socket.send("is not of the bus")
            assert socket.recv(PATIENCE) == "is not of the bus"
        stays = kps.sync.Client.connect(url, id="bob", headers=headers, reconnect=False)
    # The server has stopped, although a client was there.
    assert set(seen) == {"192.0.2.9"}
    stays.close()


def test_until_the_bus_has_started_uvicorn_carries_it_over_asgi() -> None:
    fastapi = pytest.importorskip("fastapi")
    module = importlib.import_module("kps.uvicorn")
    bus = Bus()
    app = fastapi.FastAPI()
    app.mount("/bus", bus)
    with served(app, ws=module.protocol(bus, "/bus")) as address:
        url = f"ws://{address}/bus/"
        with kps.sync.Client(url, id="alice"), kps.sync.Client(url, id="bob"):
            kinds = [type(one).__name__ for one in bus._driver.connections]
            assert kinds == ["AsgiConnection", "CarriedConnection"]


@pytest.mark.parametrize("value", ["bus", None])
def test_mistakes_with_the_protocol_of_uvicorn(value: Any) -> None:
    module = importlib.import_module("kps.uvicorn")
    with pytest.raises(kps.InvalidArgument):
        module.protocol(Bus(), value)
    with pytest.raises(kps.InvalidArgument):
        module.protocol(value, "/bus")


SERVERS = {
    "uvicorn": (("-m", "uvicorn", "--port", "0", "--ws", "wsproto"), "running on http://"),
    "daphne": (("-m", "daphne", "-e", "tcp:0:interface=127.0.0.1"), "Listening on TCP address "),
    "hypercorn": (("-m", "hypercorn", "--bind", "127.0.0.1:0"), "Running on http://"),
}


@pytest.mark.parametrize("server", SERVERS)
def test_django(server: str) -> None:
    for name in (server, "django"):
        pytest.importorskip(name)
    command, says = SERVERS[server]
    with program(*command, "examples.django_bus:application", says=says) as address:
        url = f"ws://{address}/ws/bus"
        headers = ask(address, "GET", "/login?name=ann")[2]
        cookie = str(headers["set-cookie"]).partition(";")[0]
        with kps.sync.Client(url, id="alice", headers={"Cookie": cookie}) as alice:
            orders = alice.subscribe("orders")
            settle(alice)
            assert get(address, "/order?item=tea")[0] == 200
            assert next(orders).data == {"item": "tea"}
        with pytest.raises(kps.ConnectFailed, match=r"401|403"):
            kps.sync.Client.connect(url, reconnect=False)


def test_fastapi_example() -> None:
    pytest.importorskip("fastapi")
    command = "-m", "uvicorn", "--port", "0", "--ws", "wsproto", "examples.fastapi_bus:app"
    with program(*command, says="running on http://") as address:
        assert b"kps.js" in get(address, "/")[1]
        asyncio.run(vote(address))


def test_starlette_example() -> None:
    """Workers of another example come to the bus of ``starlette_bus.py``."""
    pytest.importorskip("starlette")
    command = "-m", "uvicorn", "--port", "0", "--ws", "wsproto", "examples.starlette_bus:app"
    with program(*command, says="running on http://") as address:
        assert post(address, "/sums", b"[1, 2, 3]") == (503, {"error": "there is no worker"})
        assert post(address, "/sums", b"one")[0] == 400
        url = f"ws://{address}/bus/"
        with subprocess.Popen(
            [sys.executable, "-u", str(ROOT / "examples" / "worker.py"), url, "1"],
            stdout=subprocess.PIPE,
            text=True,
        ) as worker:
            try:
                assert worker.stdout is not None
                assert worker.stdout.readline() == "ready\n"
                status, told = post(address, "/sums", b"[1, 2, 3]")
                assert (status, list(told)) == (200, ["done by"])
                assert worker.stdout.readline().endswith(" gets 6\n")
                assert worker.wait(PATIENCE) == 0
            finally:
                worker.kill()


def test_litestar_example() -> None:
    """Who has signed in with ``litestar_bus.py`` gets the notes, those of the past too."""
    pytest.importorskip("litestar")
    command = "-m", "uvicorn", "--port", "0", "--ws", "wsproto", "examples.litestar_bus:app"
    with program(*command, says="running on http://") as address:
        note = json.dumps({"text": "hello"}).encode()
        assert post(address, "/notes", note)[0] == 401
        login = ask(address, "GET", "/login?name=ann")[2]
        cookie = str(login["set-cookie"]).partition(";")[0]
        assert post(address, "/notes", note, Cookie=cookie)[0] == 201
        assert b"kps.js" in get(address, "/", Cookie=cookie)[1]
        url = f"ws://{address}/bus/"
        with kps.sync.Client(url, headers={"Cookie": cookie}) as client:
            notes = client.subscribe("notes", last=20)
            assert next(notes).data == {"by": "ann", "text": "hello"}
            post(address, "/notes", note, Cookie=cookie)
            assert next(notes).data == {"by": "ann", "text": "hello"}
            with pytest.raises(kps.ServerError):
                client.publish_with_receipt("notes", "of a client")
        with pytest.raises(kps.ConnectFailed, match=r"401|403"):
            kps.sync.Client.connect(url, reconnect=False)


async def vote(address: str) -> None:
    came: asyncio.Queue[object] = asyncio.Queue()
    async with kps.Client(f"ws://{address}/bus/") as client, asyncio.timeout(PATIENCE):
        await client.subscribe("votes", lambda message: came.put_nowait(message.data), inline=True)
        with pytest.raises(kps.ServerError):
            await client.request("votes", 1)
        counted = {"tea": 1, "coffee": 0}
        assert await asyncio.to_thread(post, address, "/vote/tea") == (200, counted)
        assert await came.get() == counted
