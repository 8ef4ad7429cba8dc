"""The page about Channels: its project, from nothing, and what it does then."""

import asyncio
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus

import kps.sync
from kps.auth.tokens import TokenFile
from tests.asgi.harness import ROOT, program
from tests.channels.harness import PATIENCE, layers, on_loop, until
from tests.channels.test_example import enter, hear, say, until_it_hears
from tests.io.harness import eventually

PAGE = (ROOT / "docs" / "channels.md").read_text(encoding="utf-8")
TOKEN = "a-token-of-sufficient-length"
CODE = re.compile(r"^( *)```(?:python|toml)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def code_below(heading: str) -> list[str]:
    """The code of a section."""
    section = PAGE.partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    return [textwrap.dedent(code) for _, code in CODE.findall(section)]


class Project:
    """The project that one has who follows the page in an empty folder.

    What the page adds in a later section is behind the rest.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self._folder = folder
        [layer] = [code for _, code in CODE.findall(PAGE) if "CHANNEL_LAYERS" in code]
        consumers, asgi, self.speak = code_below("## From nothing to a chat")
        dice, routes, roll = code_below("## Work in the background")
        [readings] = code_below("## Consumers on topics")
        [path] = re.findall(r'`(path\("ws/readings/".*\))`', PAGE)
        self.roll = self.speak.partition("\n\n")[0] + f"\n{roll}"
        """Code that gives the worker work; ``speak`` says something in a room."""
        self.run("-m", "django", "startproject", "chatsite", ".")
        site = folder / "chatsite"
        settings = (site / "settings.py").read_text()
        assert settings.count("INSTALLED_APPS = [") == 1
        settings = settings.replace("INSTALLED_APPS = [", 'INSTALLED_APPS = ["daphne", "channels",')
        settings += 'ASGI_APPLICATION = "chatsite.asgi.application"\n'
        (site / "settings.py").write_text(settings + layer.replace("localhost:9313", address))
        (site / "consumers.py").write_text("\n".join([consumers, dice, readings]))
        room = 'path("ws/rooms/<slug:room>/", Person.as_asgi())'
        assert room in asgi
        assert routes.count(room) == 1
        more = "from chatsite.consumers import Readings\n"
        (site / "asgi.py").write_text(asgi + more + routes.replace(room, f"{room}, {path}"))
        member, users = code_below("## Users")
        [present] = code_below("## Who is in a room")
        assert users.count("Member") == 2
        (site / "users.py").write_text(asgi + users.replace("Member", "Present"))
        with (site / "consumers.py").open("a") as file:
            file.write(f"\n{member}\n{present}")

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start Python there."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self._folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> None:
        """Run Python there, to its end."""
        process = self.start(*arguments)
        _, complaints = process.communicate(timeout=3 * PATIENCE)
        assert process.returncode == 0, complaints


def test_from_nothing_to_a_chat(tmp_path: Path, server: kps.sync.Server) -> None:
    for name in ("daphne", "django", "uvicorn"):
        pytest.importorskip(name)
    project = Project(tmp_path, server.address)
    project.run("manage.py", "check")
    server_of_the_site = "-m", "uvicorn", "--port", "0", "--app-dir", str(tmp_path)
    command = *server_of_the_site, "chatsite.asgi:application"
    with program(*command, says="running on http://") as host:
        with enter(host, "rooms/red/") as alice, enter(host, "rooms/red/") as bob:
            say(alice, "hello")
            assert hear(alice) == hear(bob) == {"text": "hello"}
            server.publish("channels/group/red", {"type": "room.said", "text": "hi"})
            assert hear(alice) == {"text": "hi"}
            project.run("manage.py", "shell", "-c", project.speak)
            assert hear(alice) == {"text": "from a view"}
            worker = project.start("manage.py", "runworker", "dice")
            try:
                topic = "channels/channel/dice"
                eventually(lambda: server.count_subscribers(topic)[1] == 1, "the worker")
                project.run("manage.py", "shell", "-c", project.roll)
                assert re.fullmatch(r"The dice show [1-6]\.", hear(alice)["text"])
            finally:
                worker.kill()
                worker.communicate(timeout=PATIENCE)
        with enter(host, "readings/") as reader, kps.sync.Client(server.address) as sensor:
            while not (ack := sensor.publish_with_ack("sensors/kitchen", 21.5, PATIENCE)).wait():
                pass  # until the consumer has subscribed
            assert [response.result for response in ack] == ["shown"]
            assert hear(reader) == {"sensor": "sensors/kitchen", "value": 21.5}


LOG_IN = """
from django.contrib.auth.models import User
from django.test import Client

for name in ("ann", "bob"):
    client = Client()
    client.force_login(User.objects.create_user(name))
    open(name, "w").write(client.cookies["sessionid"].value)
"""


def test_users_and_who_is_in_a_room(tmp_path: Path, server: kps.sync.Server) -> None:
    """In two processes; one of them is killed."""
    for name in ("daphne", "django", "uvicorn"):
        pytest.importorskip(name)
    project = Project(tmp_path, server.address)
    project.run("manage.py", "migrate", "--verbosity", "0")
    project.run("manage.py", "shell", "-c", LOG_IN)
    ann, bob = ((tmp_path / name).read_text() for name in ("ann", "bob"))
    server_of_the_site = "-m", "uvicorn", "--port", "0", "--app-dir", str(tmp_path)
    command = *server_of_the_site, "chatsite.users:application"
    with program(*command, says="running on http://") as host:
        with pytest.raises(InvalidStatus) as refused:
            enter(host, "rooms/red/")
        assert refused.value.response.status_code == 403
        with enter(host, "rooms/red/", ann) as window, enter(host, "rooms/red/", ann):
            until_it_hears(window, {"people": ["ann"]})
            with program(*command, says="running on http://") as other:
                with enter(other, "rooms/red/", bob) as far:
                    until_it_hears(window, {"people": ["ann", "bob"]})
                    until_it_hears(far, {"people": ["ann", "bob"]})
                    say(far, "hello")
                    until_it_hears(window, {"text": "hello"})
                until_it_hears(window, {"people": ["ann"]})
                for text in map(str, range(20)):
                    with enter(other, "rooms/red/", bob) as far:
                        say(far, text)  # while this comes back, far closes
                        until_it_hears(window, {"people": ["ann", "bob"]})
                    until_it_hears(window, {"people": ["ann"]})
            for wrong in ("no JSON", "{}", "[]", '{"text": 1}', "[" * 100_000, b"\x00"):
                with enter(host, "rooms/red/", ann) as odd:
                    odd.send(wrong)
                    with pytest.raises(ConnectionClosedError) as closed:
                        while True:
                            odd.recv(PATIENCE)
                    assert closed.value.rcvd is not None
                    assert closed.value.rcvd.code == 1008


@on_loop
async def test_the_client_itself(server: kps.sync.Server) -> None:
    """A callback in the client's thread comes back to the consumer."""
    [code] = code_below("## The client itself")
    names = run(f"from channels.generic.websocket import AsyncJsonWebsocketConsumer\n\n{code}")
    async with layers(server) as [layer]:
        weather = names["Weather"]()
        weather.channel_layer, weather.channel_name = layer, await layer.new_channel()
        shown: list[object] = []

        async def note(*args: object) -> None:
            shown.extend(args)

        weather.accept = weather.send_json = note
        await weather.connect()
        server.publish("weather", "rain")
        told = await layer.receive(weather.channel_name)
        assert told["type"] == "weather.told"
        await weather.weather_told(told)
        assert shown == ["rain"]
        await weather.disconnect(1000)
        await until(lambda: not any(server.count_subscribers("weather")))


def test_the_bus_in_memory() -> None:
    [code] = code_below("## In tests")
    asyncio.run(asyncio.wait_for(run(code)["test_a_room"](), PATIENCE))


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "page"}
    exec(code, names)
    return names


@on_loop
async def test_the_permissions_suffice(tmp_path: Path) -> None:
    [rules] = code_below("## On the bus")
    file = tmp_path / "tokens.toml"
    file.write_text(rules.replace("sha256:…", TOKEN))
    file.chmod(0o600)
    with kps.sync.Server("127.0.0.1:0", auth=TokenFile(file)) as server:
        async with layers(server, 2, token=TOKEN) as [one, other]:
            channel = await one.new_channel()
            await one.group_add("red", channel)
            for number, send in enumerate((one.group_send, other.group_send)):
                await send("red", {"type": "x", "number": number})
                assert (await one.receive(channel))["number"] == number
            await other.send(channel, {"type": "x", "number": 2})
            assert (await one.receive(channel))["number"] == 2
            await other.send("dice", {"type": "x", "number": 3})
            assert (await one.receive("dice"))["number"] == 3
            assert await other.group_members("red") == {channel: None}
            await one.flush()
