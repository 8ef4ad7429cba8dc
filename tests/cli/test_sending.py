"""More ways to publish, to print, to ask and to answer: as processes, with a server in this one."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

import kps.sync
from tests.cli.test_cli import KPS, PATIENCE, run
from tests.cli.test_groups import is_subscribed, server
from tests.io.harness import eventually

__all__ = ["server"]


def command(server: kps.sync.Server, *arguments: str, input: str = "") -> tuple[int, str, str]:
    result = run(*arguments, "--address", server.address, input=input)
    return result.returncode, result.stdout, result.stderr


@pytest.fixture
def got(server: kps.sync.Server) -> list[kps.Message]:
    messages: list[kps.Message] = []
    server.subscribe("t", messages.append, inline=True)
    return messages


class TestPub:
    def test_to_a_client(self, server: kps.sync.Server) -> None:
        messages: list[Any] = []

        def take(message: kps.Message) -> str:
            messages.append((message.data, dict(message.headers)))
            return "thanks"

        with kps.sync.Client(server.address, id="bob", on_id=take):
            sent = command(server, "pub", "--to", "bob", '{"n": 1}', "--header", "a=b")
            assert sent == (0, "", "")
            eventually(lambda: messages == [({"n": 1}, {"a": "b"})], "the message")
            code, output, errors = command(server, "pub", "--to", "bob", "2", "--ack")
            assert (code, json.loads(output), errors) == (
                0, {"client_id": "bob", "success": True}, ""
            )  # fmt: skip
            assert command(server, "pub", "--to", "bob", "-", input="1\n2\n")[0] == 0
            eventually(lambda: len(messages) == 4, "the lines")

    def test_to_a_client_that_is_not_there(self, server: kps.sync.Server) -> None:
        code, output, errors = command(server, "pub", "--to", "bob", "1")
        assert (code, output, errors.count("\n")) == (1, "", 1)
        assert "bob" in errors
        nobody = "kps pub: nobody answered as 'bob'\n"
        assert command(server, "pub", "--to", "bob", "1", "--ack") == (1, "", nobody)

    def test_receipts(self, server: kps.sync.Server, got: list[kps.Message]) -> None:
        assert command(server, "pub", "t", "1", "--receipt") == (0, '{"subscribers":1}\n', "")
        assert command(server, "pub", "none", "1", "--receipt") == (0, '{"subscribers":0}\n', "")
        code, output, errors = command(server, "pub", "t", "-", "--receipt", input="1\n2\n")
        assert (code, output, errors) == (0, '{"subscribers":1}\n' * 2, "")
        assert [message.data for message in got] == [1, 1, 2]

    def test_a_receipt_of_a_server_that_does_not_tell(self) -> None:
        with kps.sync.Server("127.0.0.1:0", level=1) as server:
            told = command(server, "pub", "t", "1", "--receipt")
        assert told == (0, '{"subscribers":null}\n', "")

    def test_several_times(self, server: kps.sync.Server, got: list[kps.Message]) -> None:
        assert command(server, "pub", "t", "x", "--count", "3") == (0, "", "")
        assert [message.data for message in got] == ["x"] * 3
        assert command(server, "pub", "t", "-", "--count", "2", input="1\n2\n3\n") == (0, "", "")
        assert [message.data for message in got[3:]] == [1, 2]

    def test_no_faster_than_the_rate(self, server: kps.sync.Server, got: list[kps.Message]) -> None:
        began = time.monotonic()
        code, _, _ = command(server, "pub", "t", "1", "--count", "6", "--rate", "10")
        assert (code, len(got)) == (0, 6)
        assert time.monotonic() - began >= 0.5

    def test_what_looks_like_json(self, server: kps.sync.Server, got: list[kps.Message]) -> None:
        code, _, errors = command(server, "pub", "t", "{'a': 1}")
        assert code == 0
        assert errors.startswith("kps pub: sent as a string, because it is not JSON: ")
        assert command(server, "pub", "t", "plain words") == (0, "", "")
        code, _, errors = command(server, "pub", "t", "-", input='1\n["a\nx\n')
        assert code == 0
        assert errors.startswith("kps pub: line 2: sent as a string, because it is not JSON: ")
        assert [message.data for message in got] == ["{'a': 1}", "plain words", 1, '["a', "x"]

    def test_json_that_is_insisted_on(
        self, server: kps.sync.Server, got: list[kps.Message]
    ) -> None:
        code, _, errors = command(server, "pub", "t", "--json", "plain")
        assert (code, errors.count("\n")) == (2, 1)
        assert errors.startswith("kps pub: DATA is not JSON: ")
        code, _, errors = command(server, "pub", "t", "-", "--json", input='1\nplain\n"x"\n')
        assert (code, errors.count("\n")) == (1, 1)
        assert errors.startswith("kps pub: line 2: it is not JSON: ")
        assert [message.data for message in got] == [1, "x"]

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (["t", "1", "--to", "bob"], "a client has no topics: with --to there is only DATA"),
            (["--to", "bob"], "the following arguments are required: TOPIC"),
            (["--to", "bob", "1", "--receipt"], "--receipt does not go with --to"),
            (["t", "1", "--ack", "--receipt"], "--receipt does not go with --ack"),
            (["--to", "bob", "1", "--ack", "--key", "k"], "--key is for groups, and --to names a"),
            (
                ["--to", "b", "1", "--ack", "--expect-group", "g"],
                "--expect-group is one of a ",
            ),
            (["t", "1", "--rate", "0"], "argument --rate: must be a number per second above 0"),
            (["t", "1", "--rate", "nan"], "argument --rate: must be a number per second above 0"),
            (
                ["t", "1", "--id", "i", "--message-id", "m", "--count", "2"],
                "--message-id is that",
            ),
        ],
    )
    def test_mistakes(self, arguments: list[str], error: str) -> None:
        result = run("pub", *arguments, KPS_ADDRESS="127.0.0.1:1")
        assert result.stderr.startswith(f"kps pub: {error}")
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)


class TestSub:
    def sub(self, server: kps.sync.Server, *arguments: str) -> str:
        """What is printed for some messages."""
        process = subprocess.Popen(
            [*KPS, "sub", "t", "--id", "reader", "--count", "3", "--address", server.address,
             *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        eventually(lambda: is_subscribed(server, "reader"), "the subscription")
        for data in ("two words", {"n": [1, "é"]}, None):
            server.publish("t", data)
        output, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (0, "")
        return output

    def test_raw(self, server: kps.sync.Server) -> None:
        assert self.sub(server, "--raw") == 'two words\n{"n":[1,"é"]}\nnull\n'

    def test_the_time(self, server: kps.sync.Server) -> None:
        moment = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"
        for line in map(json.loads, self.sub(server, "--timestamp").splitlines()):
            assert list(line) == ["time", "topic", "from", "data"]
            assert re.fullmatch(moment, line["time"])
        first, *_ = self.sub(server, "--timestamp", "--raw").splitlines()
        assert re.fullmatch(f"{moment} two words", first)


class TestReply:
    @pytest.fixture
    def reply(self, server: kps.sync.Server) -> Iterator[Any]:
        started: list[subprocess.Popen[str]] = []

        def start(*options: str) -> None:
            arguments = ["t", *options, "--id", "w", "--address", server.address]
            process = subprocess.Popen([*KPS, "reply", *arguments], text=True)
            started.append(process)
            eventually(lambda: is_subscribed(server, "w"), "the subscription")

        yield start
        for process in started:
            process.kill()
            process.communicate()

    @pytest.mark.parametrize(("text", "result"), [("pong", "pong"), ('{"a": [1]}', {"a": [1]})])
    def test_a_fixed_text(
        self, server: kps.sync.Server, reply: Any, text: str, result: Any
    ) -> None:
        reply("--text", text)
        assert server.request("t", 1, timeout=PATIENCE) == result
        assert server.request("t", 2, timeout=PATIENCE) == result

    def test_a_line_of_the_shell(self, server: kps.sync.Server, reply: Any) -> None:
        reply("--shell", "tr a-z A-Z | sed s/A/-/; exit $(test $KPS_TOPIC = t; echo $?)")
        assert server.request("t", "abc", timeout=PATIENCE) == "-BC"

    @pytest.mark.parametrize(
        "more", [["--text", "a", "--shell", "b"], ["--text", "a", "--", "b"], []]
    )
    def test_one_way_only(self, more: list[str]) -> None:
        result = run("reply", "t", *more, KPS_ADDRESS="127.0.0.1:1")
        assert result.returncode == 2
        assert result.stderr.startswith("kps reply: name a COMMAND behind --, or give either")


class TestReq:
    def test_of_a_group(self, server: kps.sync.Server) -> None:
        """Others are asked as well, but theirs is not the answer."""
        server.subscribe("t", lambda message: "the server")
        nobody = "kps req: nobody takes requests to 'g of t'\n"
        assert command(server, "req", "t", "1", "--group", "g") == (3, "", nobody)
        with kps.sync.Client(server.address, id="w") as client:
            client.subscribe("t", lambda message: [message.data, message.attempt], group="g")
            assert command(server, "req", "t", "1", "--group", "g") == (0, "[1,1]\n", "")

    def test_a_group_that_fails(self, server: kps.sync.Server) -> None:
        attempts: list[int] = []

        def fail(message: kps.Message) -> None:
            attempts.append(message.attempt)
            raise ValueError("no space")

        with kps.sync.Client(server.address, id="w") as client:
            client.subscribe("t", fail, group="g")
            failed = "kps req: the request to 'g of t' failed: w: no space\n"
            asked = command(server, "req", "t", "1", "--group", "g", "--retry", "1")
            assert asked == (1, "", failed)
        assert attempts == [1, 2]

    def test_a_group_that_is_silent(self, server: kps.sync.Server) -> None:
        with kps.sync.Client(server.address) as client:
            messages = client.subscribe("t", group="g")
            asked = command(server, "req", "t", "1", "--group", "g", "--timeout", "0.2")
            del messages
        assert asked == (4, "", "kps req: no answer to the request to 'g of t' in time\n")

    def test_json_that_is_insisted_on(self) -> None:
        result = run("req", "t", "--json", "{", KPS_ADDRESS="127.0.0.1:1")
        assert result.returncode == 2
        assert result.stderr.startswith("kps req: DATA is not JSON: ")
