"""The project in ``examples/django_chat``, under the servers with which people run it."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

import kps.sync
from tests.channels.harness import PATIENCE

PROJECT = Path(__file__).parent.parent.parent / "examples" / "django_chat"
SERVERS = {
    "runserver": ("manage.py", "runserver", "127.0.0.1:0"),  # which starts a process of its own
    "daphne": ("-m", "daphne", "-e", "tcp:0:interface=127.0.0.1", "chatsite.asgi:application"),
    "uvicorn": ("-m", "uvicorn", "--port", "0", "chatsite.asgi:application"),
}
LISTENS = re.compile(r"Listening on TCP address 127.0.0.1:(\d+)|running on http://127.0.0.1:(\d+)")

Start = Callable[..., "subprocess.Popen[str]"]


LOG_IN = """
import json, os
from django.contrib.auth.models import User
from django.test import Client

sessions = {}
for name in ("alice", "bob", "eve"):
    client = Client()
    client.force_login(User.objects.create_user(name, password=f"the password of {name}"))
    sessions[name] = client.cookies["sessionid"].value
with open(os.environ["CHAT_DATABASE"] + ".sessions", "w") as file:
    json.dump(sessions, file)
"""


def environment(database: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "CHAT_DATABASE": str(database),
        "DJANGO_SETTINGS_MODULE": "tests.channels.told_settings",
        "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(PROJECT)]),
        **more,
    }


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a database with three people who have logged in."""
    path = tmp_path_factory.mktemp("site") / "db.sqlite3"
    for words in (["migrate", "--verbosity", "0"], ["shell", "-c", LOG_IN]):
        command = [sys.executable, "manage.py", *words]
        subprocess.run(command, cwd=PROJECT, env=environment(path), check=True)
    return path


@pytest.fixture(scope="module")
def sessions(database: Path) -> dict[str, str]:
    """Their sessions, by name."""
    found: dict[str, str] = json.loads(Path(f"{database}.sessions").read_text())
    return found


@pytest.fixture
def start(server: kps.sync.Server, database: Path) -> Iterator[Start]:
    """Starts programs of the project, which end with the test."""
    with ExitStack() as stack:

        def run(*arguments: str) -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=PROJECT,
                start_new_session=True,
                env=environment(database, KPS_ADDRESS=server.address),
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.communicate, timeout=PATIENCE)
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
            return process

        yield run


def listen(start: Start, name: str) -> str:
    """Start a web server, and return ``host:port``."""
    process = start(*SERVERS[name])
    assert process.stderr is not None
    lines = []
    impatient = threading.Timer(2 * PATIENCE, os.killpg, (process.pid, signal.SIGKILL))
    impatient.start()
    try:
        for line in process.stderr:
            lines.append(line)
            if found := LISTENS.search(line):
                return f"127.0.0.1:{found[1] or found[2]}"
    finally:
        impatient.cancel()
    raise AssertionError("".join(lines))


def enter(host: str, path: str, session: str = "") -> ClientConnection:
    origin = Origin(f"http://{host}")
    cookies = {"Cookie": f"sessionid={session}"} if session else {}
    url = f"ws://{host}/ws/{path}"
    return connect(url, origin=origin, additional_headers=cookies, open_timeout=PATIENCE)


def say(socket: ClientConnection, text: str) -> None:
    socket.send(json.dumps({"text": text}))


def hear(socket: ClientConnection) -> Any:
    return json.loads(socket.recv(3 * PATIENCE))  # the worker may still be starting


def hear_text(socket: ClientConnection) -> Any:
    """Hear what somebody says, whoever comes or goes meanwhile."""
    while "text" not in (message := hear(socket)):
        pass
    return message


def until_it_hears(socket: ClientConnection, message: dict[str, object]) -> None:
    while hear(socket) != message:
        pass  # what was so before


@pytest.mark.parametrize("name", SERVERS)
def test_rooms_and_the_worker(start: Start, sessions: dict[str, str], name: str) -> None:
    """Two web servers, and a worker beside them."""
    hosts = [listen(start, name) for _ in range(2)]
    start("manage.py", "runworker", "dice")
    with (
        enter(hosts[0], "rooms/red/", sessions["alice"]) as alice,
        enter(hosts[1], "rooms/red/", sessions["bob"]) as bob,
        enter(hosts[1], "rooms/blue/", sessions["eve"]) as eve,
    ):
        for socket in (alice, bob):
            until_it_hears(socket, {"people": ["alice", "bob"]})
        say(alice, "hello")
        assert hear_text(alice) == hear_text(bob) == {"from": "alice", "text": "hello"}
        say(bob, "/roll")
        assert hear_text(alice) == hear_text(bob) == {"from": "bob", "text": "/roll"}
        shown = hear_text(alice)
        assert re.fullmatch(r"The dice show [1-6]\.", shown["text"])
        assert hear_text(bob) == shown
        say(eve, "nobody else here")
        assert hear_text(eve) == {"from": "eve", "text": "nobody else here"}
        bob.close()
        until_it_hears(alice, {"people": ["alice"]})


def test_strangers_may_not_in(start: Start, sessions: dict[str, str]) -> None:
    host = listen(start, "uvicorn")
    with enter(host, "rooms/red/", sessions["alice"]) as alice:
        assert hear(alice) == {"people": ["alice"]}
        with pytest.raises(InvalidStatus) as refused:
            enter(host, "rooms/red/")
        assert refused.value.response.status_code == 403
        with enter(host, "rooms/red/", sessions["bob"]):
            assert hear(alice) == {"people": ["alice", "bob"]}  # of the stranger it hears nothing
    with urlopen(f"http://{host}/rooms/red/", timeout=PATIENCE) as page:
        assert page.url == f"http://{host}/accounts/login/?next=/rooms/red/"
        assert b"csrfmiddlewaretoken" in page.read()


def test_what_is_no_message(start: Start, sessions: dict[str, str]) -> None:
    host = listen(start, "uvicorn")
    with enter(host, "rooms/red/", sessions["bob"]) as bystander:
        for wrong in ("no JSON", "1", '{"text": 1}', b"\x00"):
            with enter(host, "rooms/red/", sessions["alice"]) as socket:
                socket.send(wrong)
                with pytest.raises(ConnectionClosedError) as closed:
                    while True:
                        socket.recv(PATIENCE)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1008
        say(bystander, "hello")
        assert hear_text(bystander) == {"from": "bob", "text": "hello"}


@pytest.mark.parametrize("name", SERVERS)
def test_topics_of_the_bus(start: Start, server: kps.sync.Server, name: str) -> None:
    host = listen(start, name)
    with enter(host, "readings/") as socket, kps.sync.Client(server.address) as client:
        assert hear(socket) == {"ready": True}
        [response] = client.publish_with_ack("sensors/kitchen", 21.5, PATIENCE).wait().values()
        assert response.result == "shown"
        assert hear(socket) == {"sensor": "sensors/kitchen", "value": 21.5}
        socket.close()
        while client.publish_with_ack("sensors/kitchen", 0, PATIENCE).wait():
            pass  # until the consumer has ended, and its subscription with it


@pytest.mark.parametrize("name", SERVERS)
def test_the_page_of_a_room(start: Start, sessions: dict[str, str], name: str) -> None:
    url = f"http://{listen(start, name)}/rooms/red/"
    request = Request(url, headers={"Cookie": f"sessionid={sessions['alice']}"})
    with urlopen(request, timeout=PATIENCE) as page:
        assert b"/ws/rooms/red/" in page.read()
