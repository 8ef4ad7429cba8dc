"""Groups on the command line, as a user runs it: as processes."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

import kps.sync
from tests.cli.test_cli import KPS, PATIENCE, run
from tests.io.harness import eventually


@pytest.fixture
def server() -> Iterator[kps.sync.Server]:
    with kps.sync.Server("127.0.0.1:0", id="boss") as server:
        yield server


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def is_subscribed(server: kps.sync.Server, name: str, count: int = 1) -> bool:
    return any(one.id == name and one.topics == count for one in server.clients())


def work(message: kps.Message) -> str:
    return "done"


def fail(message: kps.Message) -> None:
    raise ValueError("no space left")


class TestSub:
    def member(
        self, server: kps.sync.Server, name: str, *arguments: str, count: int = 1
    ) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [*KPS, "sub", "--group", "g", "--id", name, "--address", server.address, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        eventually(lambda: is_subscribed(server, name, count), "the subscription")
        return process

    def test_members_share_the_messages(self, server: kps.sync.Server) -> None:
        members = [self.member(server, name, "jobs", "--count", "2") for name in ("a", "b")]
        for number in range(4):
            server.publish("jobs", number)
        shown = []
        for member in members:
            output, errors = member.communicate(timeout=PATIENCE)
            assert (member.returncode, errors) == (0, "")
            shown.append([line["data"] for line in lines(output)])
        assert shown == [[0, 2], [1, 3]]

    def test_each_group_gets_its_copy(self, server: kps.sync.Server) -> None:
        """Those of a topic and of a pattern are two, so both messages are shown."""
        member = self.member(server, "a", "jobs/1", "--pattern", "jobs/*", "--count", "2", count=2)
        server.publish("jobs/1", 5)
        output, _ = member.communicate(timeout=PATIENCE)
        assert lines(output) == [{"topic": "jobs/1", "from": "boss", "data": 5}] * 2

    def test_another_member_gets_what_one_has_not_shown(self, server: kps.sync.Server) -> None:
        first = self.member(server, "first", "jobs", "--count", "1", "--concurrency", "10")
        second = self.member(server, "second", "jobs", "--count", "2")
        acks = [server.publish_with_ack("jobs", number, timeout=PATIENCE) for number in range(3)]
        outputs = [member.communicate(timeout=PATIENCE)[0] for member in (first, second)]
        shown = [line for output in outputs for line in lines(output)]
        for number, ack in enumerate(acks):
            (outcome,) = ack.wait().values()
            attempts = outcome.attempts if isinstance(outcome, kps.GroupResponse) else 0
            assert outcome.success
            told = {} if attempts == 1 else {"attempt": attempts}
            assert {"topic": "jobs", "from": "boss", "data": number} | told in shown
        assert len(shown) == 3

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (["--group", ""], "kps sub: argument --group: must be a name that is not empty"),
            (["--concurrency", "2"], "kps sub: concurrency is for a member of a group"),
            (["--group", "g", "--last", "1"], "kps sub: a group has neither a past nor presence"),
            (["--group", "g", "--concurrency", "0"],
             "kps sub: argument --concurrency: must be a whole number from 1 "),
            (["--group", "g", "--concurrency", "10001"],
             "kps sub: argument --concurrency: must be a whole number from 1 to 10000"),
        ],
    )  # fmt: skip
    def test_mistakes(self, server: kps.sync.Server, arguments: list[str], error: str) -> None:
        result = run("sub", "jobs", *arguments, "--address", server.address)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert result.stderr.startswith(error)

    def test_a_server_without_groups(self) -> None:
        with kps.sync.Server("127.0.0.1:0", level=1) as server:
            result = run("sub", "jobs", "--group", "g", "--address", server.address)
        assert (result.returncode, result.stdout) == (1, "")
        cannot = "cannot subscribe to 'jobs': the server does not have groups"
        assert result.stderr == f"kps sub: {cannot}\n"


class TestPub:
    def pub(self, server: kps.sync.Server, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        result = run("pub", "jobs/1", "5", "--ack", *arguments, "--address", server.address)
        assert result.stderr == ""
        return result.returncode, lines(result.stdout)

    def test_outcomes_of_groups(self, server: kps.sync.Server) -> None:
        with (
            kps.sync.Client(server.address, id="a") as a,
            kps.sync.Client(server.address, id="b") as b,
        ):
            a.subscribe("jobs/1", work, group="workers")
            b.subscribe(kps.Pattern("jobs/*"), fail, group="log")
            b.subscribe("jobs/1", work)
            code, told = self.pub(server, "--expect-group", "other", "--expect-group", "log")
        assert code == 1
        assert sorted(told, key=json.dumps) == [
            {"client_id": "b", "success": True},
            {"group": "log", "pattern": "jobs/*", "member": "b", "attempts": 1, "success": False,
             "error": "no space left"},
            {"group": "other", "topic": "jobs/1", "member": None, "attempts": 0,
             "success": False, "error": "no member"},
            {"group": "workers", "topic": "jobs/1", "member": "a", "attempts": 1, "success": True},
        ]  # fmt: skip

    def test_earlier_attempts(self, server: kps.sync.Server) -> None:
        with (
            kps.sync.Client(server.address, id="a") as a,
            kps.sync.Client(server.address, id="b") as b,
        ):
            a.subscribe("jobs/1", fail, group="g")
            b.subscribe("jobs/1", work, group="g")
            assert self.pub(server, "--retry", "1") == (
                0,
                [
                    {
                        "group": "g",
                        "topic": "jobs/1",
                        "member": "b",
                        "attempts": 2,
                        "failures": [{"member": "a", "error": "no space left"}],
                        "success": True,
                    }
                ],
            )

    def test_a_key_is_for_one_member(self, server: kps.sync.Server) -> None:
        with (
            kps.sync.Client(server.address, id="a") as a,
            kps.sync.Client(server.address, id="b") as b,
        ):
            for client in (a, b):
                client.subscribe("jobs/1", work, group="g")
            told = [self.pub(server, "--key", "k") for _ in range(3)]
            assert told[0] == told[1] == told[2]
            assert told[0][1][0]["success"]
            # Without a key they take turns.
            members = {self.pub(server)[1][0]["member"] for _ in range(2)}
            assert members == {"a", "b"}

    @pytest.mark.parametrize("option", ["--key", "--retry", "--expect-group"])
    def test_mistakes(self, option: str) -> None:
        result = run("pub", "t", "1", option, "1")
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr == f"kps pub: {option} needs --ack (see kps pub --help)\n"

    def test_a_server_without_groups(self) -> None:
        with kps.sync.Server("127.0.0.1:0", level=1) as server:
            result = run("pub", "t", "1", "--ack", "--key", "k", "--address", server.address)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == "kps pub: the server does not have groups\n"
