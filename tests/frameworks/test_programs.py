"""The examples for frameworks, on their real servers, in several processes."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from websockets.sync.client import connect

import kps
import kps.sync
from tests.examples.harness import until
from tests.frameworks.harness import EXAMPLES, PATIENCE, post, running, uvicorn
from tests.ports import kept_address


@pytest.fixture
def bus() -> Iterator[kps.sync.Server]:
    with kps.sync.Server("127.0.0.1:0", history=[kps.History("site/**", size=10)]) as server:
        yield server


def test_litestar_channels(bus: kps.sync.Server) -> None:
    """What the program ``litestar_channels.py`` publishes comes out of another process."""
    pytest.importorskip("litestar", reason="Litestar is not installed")
    program = uvicorn("litestar_channels:app")
    with running(*program, bus=bus.address) as one, running(*program, bus=bus.address) as other:
        assert post(one, "/news", {"n": 1}) == (201, {"n": 1})
        until(lambda: len(bus.history("site/news").messages) == 1)
        with connect(f"ws://{other}/live/news") as user:
            assert json.loads(user.recv(PATIENCE)) == {"n": 1}
            assert post(one, "/news", {"n": 2})[0] == 201
            assert json.loads(user.recv(PATIENCE)) == {"n": 2}
            bus.publish("site/news", [3])
            assert json.loads(user.recv(PATIENCE)) == [3]
        past = bus.history("site/news").messages
        assert [message.data for message in past] == [{"n": 1}, {"n": 2}, [3]]


def test_starlette_rooms(bus: kps.sync.Server) -> None:
    """Users of two processes of ``starlette_rooms.py`` hear each other, and the bus."""
    pytest.importorskip("broadcaster", reason="broadcaster is not installed")
    program = uvicorn("starlette_rooms:app")
    with running(*program, bus=bus.address) as one, running(*program, bus=bus.address) as other:
        with connect(f"ws://{one}/rooms/tea") as ann, connect(f"ws://{other}/rooms/tea") as bob:
            with connect(f"ws://{one}/rooms/coffee") as cid:
                ann.send("hello")
                assert [user.recv(PATIENCE) for user in (ann, bob)] == ["hello"] * 2
                bus.publish("rooms/tea", "of the bus")
                assert [user.recv(PATIENCE) for user in (ann, bob)] == ["of the bus"] * 2
                bob.send("bye")
                assert ann.recv(PATIENCE) == "bye"
                cid.send("alone")
                assert cid.recv(PATIENCE) == "alone"


FLASK = ("flask", "--app", "flask_view", "run", "--port", "0")
# A worker that has not begun forgets a SIGTERM, and gunicorn waits for it: not longer than we do.
GUNICORN = ("gunicorn", "--bind", "127.0.0.1:0", "--workers", "2", "--threads", "2", "--preload",
            "--graceful-timeout", "10", "flask_view:app")  # fmt: skip


@pytest.mark.parametrize(
    "program", [FLASK, (*FLASK, "--reload"), GUNICORN], ids=["flask", "reload", "gunicorn"]
)
def test_flask_view(bus: kps.sync.Server, program: tuple[str, ...]) -> None:
    """Each process of ``flask_view.py`` has a connection of its own."""
    pytest.importorskip("flask", reason="Flask is not installed")
    if program is GUNICORN:
        if sys.platform == "win32":
            pytest.skip("gunicorn needs a system that forks")
        pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    with running(*program, bus=bus.address) as address:
        assert post(address, "/orders", {"what": "tea"}) == (
            503,
            {"error": "nobody has taken it"},
        )
        bus.subscribe("orders", lambda message: None)
        for _ in range(10):
            status, answer = post(address, "/orders", {"what": "tea"})
            assert (status, answer) == (202, {"taken by": [bus.id]})
        ids = {client.id for client in bus.clients()}
        assert len(ids) in ((1, 2) if program is GUNICORN else (1,))


def test_flask_view_while_the_bus_is_away() -> None:
    """A request is answered at once, and the next one after the bus is back is a success."""
    pytest.importorskip("flask", reason="Flask is not installed")
    port = kept_address()
    server = kps.sync.Server(port)
    server.start()
    server.subscribe("orders", lambda message: None)
    with running(*FLASK, bus=port) as address:
        assert post(address, "/orders", {})[0] == 202
        server.stop()
        until(lambda: post(address, "/orders", {})[0] == 503)
        with kps.sync.Server(port) as later:
            later.subscribe("orders", lambda message: None)
            assert post(address, "/orders", {})[0] == 202


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (kps.RequestTimeout("the server is silent"), 503),
        (kps.ConnectionLost("it has gone"), 503),
        (kps.MessageTooLarge("the message is too large"), 400),
    ],
)
def test_flask_view_answers_what_went_wrong(
    error: Exception, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As JSON, which its page shows."""
    pytest.importorskip("flask", reason="Flask is not installed")
    monkeypatch.syspath_prepend(EXAMPLES)
    program = importlib.import_module("flask_view")

    def fail() -> None:
        raise error

    monkeypatch.setattr(program.bus, "client", fail)
    answer = program.app.test_client().post("/orders", json={"what": "tea"})
    assert (answer.status_code, answer.json) == (status, {"error": str(error)})


FORKS = """
import os, sys
import flask_view
parent = flask_view.bus.client()
if os.fork() == 0:
    child = flask_view.bus.client()
    child.publish("forks", child.id)
    child.close()
    os._exit(0 if child is not parent else 1)
status = os.waitstatus_to_exitcode(os.wait()[1])
parent.publish("forks", parent.id)
parent.close()
sys.exit(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_of_flask_view_has_a_connection_of_its_own(bus: kps.sync.Server) -> None:
    """Also if the program was connected before it forked, as it may be at its import."""
    pytest.importorskip("flask", reason="Flask is not installed")
    seen = bus.subscribe("forks", timeout=PATIENCE)
    environment = {**os.environ, "KPS_ADDRESS": bus.address}
    subprocess.run(
        [sys.executable, "-c", FORKS], cwd=EXAMPLES, env=environment, timeout=PATIENCE, check=True
    )
    child, parent = next(seen), next(seen)
    assert child.data == child.sender
    assert parent.data == parent.sender
    assert child.sender != parent.sender
