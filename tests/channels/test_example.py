"""The project in ``examples/django_chat``, under the servers with which people run it."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

import kps.sync
from tests.channels.harness import PATIENCE
from tests.channels.projects import SERVERS, Start, enter, hear, listen, programs, say

PROJECT = Path(__file__).parent.parent.parent / "examples" / "django_chat"


@pytest.fixture
def start(server: kps.sync.Server) -> Iterator[Start]:
    """Starts programs of the project, which end with the test."""
    settings = "tests.channels.told_settings"
    with programs(PROJECT, KPS_ADDRESS=server.address, DJANGO_SETTINGS_MODULE=settings) as start:
        yield start


@pytest.mark.parametrize("name", SERVERS)
def test_rooms_and_the_worker(start: Start, name: str) -> None:
    """Two web servers, and a worker beside them."""
    hosts = [listen(start, name) for _ in range(2)]
    start("manage.py", "runworker", "dice")
    with (
        enter(hosts[0], "rooms/red/") as alice,
        enter(hosts[1], "rooms/red/") as bob,
        enter(hosts[1], "rooms/blue/") as eve,
    ):
        say(alice, "hello")
        assert hear(alice) == hear(bob) == {"text": "hello"}
        say(bob, "/roll")
        assert hear(alice) == hear(bob) == {"text": "/roll"}
        shown = hear(alice)
        assert re.fullmatch(r"The dice show [1-6]\.", shown["text"])
        assert hear(bob) == shown
        say(eve, "nobody else here")
        assert hear(eve) == {"text": "nobody else here"}


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
def test_the_page_of_a_room(start: Start, name: str) -> None:
    with urlopen(f"http://{listen(start, name)}/rooms/red/", timeout=PATIENCE) as page:
        assert b"/ws/rooms/red/" in page.read()
