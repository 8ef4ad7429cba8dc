"""The options and commands for history, as a user runs them: as processes."""

import json
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kps.sync
from kps.cli.serve_options import rule
from tests.cli.test_cli import KPS, PATIENCE, Serve, run, serve
from tests.io.harness import eventually

__all__ = ["serve"]

RULES = [kps.History("short", size=3), kps.History("a/**"), kps.History("news")]


@pytest.fixture
def server() -> Iterator[kps.sync.Server]:
    with kps.sync.Server("127.0.0.1:0", id="s", history=RULES) as server:
        yield server


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def payloads(text: str) -> list[Any]:
    return [line["data"] for line in lines(text)]


class TestHistory:
    def test_the_latest(self, server: kps.sync.Server) -> None:
        for number in range(150):
            server.publish("news", number)
        asked = "news", "--address", server.address
        shown = run("history", *asked)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert payloads(shown.stdout) == list(range(50, 150))
        assert payloads(run("history", *asked, "--last", "2").stdout) == [148, 149]
        epoch = server.history("news").position.epoch
        assert lines(shown.stdout)[0] == {
            "topic": "news", "from": "s", "data": 50, "epoch": epoch, "offset": 51,
        }  # fmt: skip

    def test_all_behind_a_place(self, server: kps.sync.Server) -> None:
        for number in range(1000):
            server.publish("news", number)
        for number in range(5):
            server.publish("short", number)
        epoch = server.history("news").position.epoch

        def since(topic: str, place: str) -> tuple[int, list[Any], str]:
            result = run("history", topic, "--since", place, "--address", server.address)
            return result.returncode, payloads(result.stdout), result.stderr

        assert since("news", f"{epoch}:1") == (0, list(range(1, 1000)), "")
        assert since("news", f"{epoch}:0") == (0, list(range(1000)), "")
        assert since("news", f"{epoch}:1000") == (0, [], "")
        lost = "kps history: the server does not keep 1 of these messages any more\n"
        assert since("short", f"{epoch}:1") == (1, [2, 3, 4], lost)
        unknown = "some messages may be missing: the server does not know the place"
        assert since("short", "other:3") == (1, [2, 3, 4], f"kps history: {unknown}\n")

    def test_what_cannot_be_told(self, server: kps.sync.Server) -> None:
        refused = run("history", "other", "--address", server.address)
        assert (refused.returncode, refused.stdout) == (1, "")
        cannot = "kps history: cannot read the history of 'other'"
        assert refused.stderr == f"{cannot}: this topic has no history\n"
        with kps.sync.Server("127.0.0.1:0", level=1) as old:
            lacking = run("history", "other", "--address", old.address)
        assert (lacking.returncode, lacking.stdout) == (1, "")
        assert lacking.stderr == f"{cannot}: the server does not have history\n"

    @pytest.mark.parametrize("place", ["", "5", ":5", "e:", "e:-1", "e:x", "e:12345678901234567"])
    def test_no_place(self, place: str) -> None:
        result = run("history", "t", "--since", place)
        must = "kps history: argument --since: must be EPOCH:OFFSET"
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith(must)


class TestSub:
    def sub(self, server: kps.sync.Server, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*KPS, "sub", *arguments, "--address", server.address],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def test_it_begins_with_the_latest(self, server: kps.sync.Server) -> None:
        for topic in ("news", "a/1", "a/2"):
            for number in range(3):
                server.publish(topic, f"{topic} {number}")
        subscriber = self.sub(
            server, "news", "a/1", "news", "--pattern", "a/*", "--last", "2", "--count", "7"
        )
        eventually(lambda: bool(server.count_subscribers("a/1")[1]), "the last subscription")
        server.publish("a/1", "new")
        output, errors = subscriber.communicate(timeout=PATIENCE)
        assert (subscriber.returncode, errors) == (0, "")
        shown = payloads(output)
        assert sorted(shown[:6]) == ["a/1 1", "a/1 2", "a/2 1", "a/2 2", "news 1", "news 2"]
        assert shown[6] == "new"

    def test_a_topic_without_history(self, server: kps.sync.Server) -> None:
        subscriber = self.sub(server, "other", "--last", "2", "--count", "1")
        assert subscriber.stderr is not None
        none = "kps sub: 'other' has no history: only new messages come\n"
        assert subscriber.stderr.readline() == none
        server.publish("other", 1)
        output, _ = subscriber.communicate(timeout=PATIENCE)
        assert payloads(output) == [1]

    def test_a_server_without_it(self) -> None:
        with kps.sync.Server("127.0.0.1:0", level=1) as server:
            _, errors = self.sub(server, "t", "--last", "2").communicate(timeout=PATIENCE)
        assert errors == "kps sub: cannot subscribe to 't': the server does not have history\n"


class TestServe:
    def kept(self, server: Serve, topic: str) -> list[Any]:
        result = run("history", topic, "--address", server.url)
        return payloads(result.stdout) if not result.returncode else [result.stderr]

    def test_rules_of_the_command_line_come_first(
        self, serve: Callable[..., Serve], tmp_path: Path
    ) -> None:
        config = tmp_path / "kps.toml"
        file = tmp_path / "h.db"
        config.write_text(
            f'address = "127.0.0.1:0"\nhistory_file = "{file}"\nhistory-sync = "full"\n'
            '[[history]]\ntopics = "a/**"\nsize = 3\nttl = 3600\n[[history]]\ntopics = "**"\n'
        )
        rules = ["--history", "a/1=1", "--history", "a/=b,**=2,0.5"]
        server = serve("--config", str(config), *rules)
        for topic in ("a/1", "a/2", "b"):
            said = run("pub", topic, "-", "--address", server.url, input="1\n2\n3\n4\n")
            assert said.returncode == 0
        seen = [self.kept(server, topic) for topic in ("a/1", "a/2", "b")]
        assert seen == [[4], [2, 3, 4], [1, 2, 3, 4]]
        assert server.stop()[0] == 0
        server = serve("--config", str(config), "--threads", KPS_HISTORY="a/2=1,60,b=2")
        seen = [self.kept(server, topic) for topic in ("a/1", "a/2", "b")]
        assert seen[:2] == [["kps history: cannot read the history of 'a/1': this topic has no "
                             "history\n"], [4]]  # fmt: skip
        assert seen[2] == [3, 4]

    @pytest.mark.parametrize(
        ("arguments", "code", "error"),
        [
            (["--history", "x"], 2, "kps serve: argument --history: must be like 'chat/**=1000' "),
            (["--history", "x=1,"], 2, "kps serve: argument --history: must be like "),
            (["--history", "x=1,y"], 2, "kps serve: argument --history: must be like "),
            (["--history", "=1"], 2, "kps serve: argument --history: topics is a pattern like "),
            (["--history", "*=1"], 2, "kps serve: argument --history: topics is a pattern like "),
            (["--history", "x=0"], 2, "kps serve: argument --history: size is a number from 1 "),
            (["--history", "x=1,0"], 2, "kps serve: argument --history: ttl is a number of "),
            (["--history-file", "f"], 2, "kps serve: --history-file needs --history"),
            (["--history", "x=1", "--history-file", ""], 2, "kps serve: argument --history-file:"),
            (["--history", "x=1", "--history-sync", "off"], 2, "kps serve: --history-sync needs"),
            (["--history-sync", "x"], 2, "kps serve: argument --history-sync: must be one of off"),
            (["--history", "x=1", "--history-file", "/nowhere/f"], 1,
             "kps serve: cannot use the history in /nowhere/f: no such file or directory\n"),
        ],
    )  # fmt: skip
    def test_mistakes(self, arguments: list[str], code: int, error: str) -> None:
        result = run("serve", *arguments)
        assert result.stderr.startswith(error)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (code, "", 1)

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ("[[history]]\nsize = 1", "it needs topics, a pattern"),
            ('[[history]]\ntopics = "x"\nseize = 1', "it has topics, size and ttl, but no seize"),
            ('[[history]]\ntopics = "x"\nsize = "1"', "size is a number from 1 to 10000000, not"),
            ("[[history]]\ntopics = 5", "topics is a pattern like"),
            ('history = ["x"]', "must be like 'chat/**=1000'"),
        ],
    )
    def test_mistakes_in_the_file(self, text: str, error: str, tmp_path: Path) -> None:
        config = tmp_path / "kps.toml"
        config.write_text(text)
        result = run("serve", "--config", str(config))
        assert result.stderr.startswith(f"kps serve: {config}, line 1: history: {error}")
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ("history = 'x=1'", "history: takes a list"),
            ("[history]\ntopics = 'x'", "history: takes a list"),
            ("[[origin]]\ntopics = 'x'", "origin: takes one value, and not {'topics': 'x'}"),
        ],
    )
    def test_a_file_with_another_kind_of_value(self, text: str, error: str, tmp_path: Path) -> None:
        config = tmp_path / "kps.toml"
        config.write_text(text)
        result = run("serve", "--config", str(config))
        assert result.stderr.startswith(f"kps serve: {config}, line 1: {error}")

    def test_a_file_of_a_newer_format(self, tmp_path: Path) -> None:
        file = tmp_path / "h.db"
        connection = sqlite3.connect(file)
        connection.execute(f"PRAGMA application_id = {0x4B505348}")
        connection.execute("PRAGMA user_version = 7")
        connection.close()
        result = run("serve", "--history", "x=1", "--history-file", str(file))
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert "it has the format 7" in result.stderr


def test_rules_as_texts() -> None:
    assert rule("a=b/**=5") == kps.History("a=b/**", size=5)
    assert rule("a,b=5,1.5") == kps.History("a,b", size=5, ttl=1.5)
