"""The command ``kps presence``, as a user runs it: as a process."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

import kps.sync
from tests.cli.test_cli import KPS, PATIENCE, run


@pytest.fixture
def server() -> Iterator[kps.sync.Server]:
    with kps.sync.Server("127.0.0.1:0") as server:
        yield server


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def told(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """The next line of a process."""
    assert process.stdout is not None
    (line,) = lines(process.stdout.readline())
    return line


def ignore(message: kps.Message) -> None:
    pass


class TestWho:
    def test_members_with_what_they_say(self, server: kps.sync.Server) -> None:
        asked = "presence", "room", "--address", server.address
        nobody = run(*asked)
        assert (nobody.returncode, nobody.stdout, nobody.stderr) == (0, "", "")
        with (
            kps.sync.Client(server.address, id="ann") as ann,
            kps.sync.Client(server.address, id="bob") as bob,
        ):
            ann.subscribe("room", ignore, info={"name": "Ann", "at": [1, "é"]})
            bob.subscribe("room", ignore)
            shown = run(*asked)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert lines(shown.stdout) == [
            {"id": "ann", "info": {"name": "Ann", "at": [1, "é"]}},
            {"id": "bob", "info": None},
        ]

    def test_of_too_many_their_number(self) -> None:
        limits = kps.ServerLimits(max_members=1)
        with (
            kps.sync.Server("127.0.0.1:0", limits=limits) as server,
            kps.sync.Client(server.address) as one,
        ):
            one.subscribe("room", ignore)
            server.subscribe("room", ignore)
            shown = run("presence", "room", "--address", server.address)
        assert (shown.returncode, shown.stdout, shown.stderr) == (0, '{"count":2}\n', "")

    @pytest.mark.parametrize("follow", [[], ["--follow"]])
    def test_what_cannot_be_told(self, follow: list[str]) -> None:
        permissions = kps.Permissions.open(presence=["open/**"])
        with kps.sync.Server("127.0.0.1:0", permissions=permissions) as server:
            refused = run("presence", "room", *follow, "--address", server.address)
        assert (refused.returncode, refused.stdout) == (1, "")
        cannot = "kps presence: cannot see who is subscribed to 'room'"
        assert refused.stderr == (
            f"{cannot}: this client may not see who is subscribed to this topic\n"
        )
        with kps.sync.Server("127.0.0.1:0", level=1) as old:
            lacking = run("presence", "room", *follow, "--address", old.address)
        assert (lacking.returncode, lacking.stdout) == (1, "")
        assert lacking.stderr == f"{cannot}: the server does not have presence\n"


class TestFollow:
    def test_it_tells_who_comes_and_goes(self, server: kps.sync.Server) -> None:
        with (
            kps.sync.Client(server.address, id="ann") as ann,
            kps.sync.Client(server.address, id="bob") as bob,
        ):
            bob.subscribe("room", ignore)
            watcher = self.follow(server)
            assert told(watcher) == {"event": "joined", "id": "bob", "info": None}
            assert told(watcher) == {"event": "joined", "id": "watcher", "info": None}
            ann.subscribe("room", ignore, info={"n": 1})
            assert told(watcher) == {"event": "joined", "id": "ann", "info": {"n": 1}}
            ann.subscribe("room", ignore, info={"n": 2})
            assert told(watcher) == {"event": "updated", "id": "ann", "info": {"n": 2}}
            ann.unsubscribe("room")
            assert told(watcher) == {"event": "left", "id": "ann", "reason": "unsubscribed"}
            bob.close()
            assert told(watcher) == {"event": "left", "id": "bob", "reason": "closed"}
        server.stop()
        output, errors = watcher.communicate(timeout=PATIENCE)
        assert (watcher.returncode, output, errors.count("\n")) == (1, "", 1)
        assert errors.startswith("kps presence: ")

    def test_it_handles_no_messages(self, server: kps.sync.Server) -> None:
        watcher = self.follow(server)
        assert told(watcher)["id"] == "watcher"
        server.publish("room", "to nobody")
        answers = server.publish_with_ack("room", "who does it?", timeout=PATIENCE).wait()
        assert [(one.success, one.error) for one in answers.values()] == [
            (False, "kps presence handles no messages")
        ]
        server.stop()
        output, _ = watcher.communicate(timeout=PATIENCE)
        assert output == ""

    def test_of_too_many_their_number(self) -> None:
        limits = kps.ServerLimits(max_members=2)
        with (
            kps.sync.Server("127.0.0.1:0", limits=limits) as server,
            kps.sync.Client(server.address, id="ann") as ann,
            kps.sync.Client(server.address, id="bob") as bob,
        ):
            watcher = self.follow(server)
            assert told(watcher)["id"] == "watcher"
            ann.subscribe("room", ignore)
            assert told(watcher)["id"] == "ann"
            bob.subscribe("room", ignore)
            assert told(watcher) == {"count": 3}
            ann.unsubscribe("room")
            assert told(watcher) == {"count": 2}
            bob.unsubscribe("room")
            assert told(watcher) == {"event": "joined", "id": "watcher", "info": None}
        watcher.communicate(timeout=PATIENCE)

    def follow(self, server: kps.sync.Server) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*KPS, "presence", "room", "--follow", "--id", "watcher", "--address", server.address],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
