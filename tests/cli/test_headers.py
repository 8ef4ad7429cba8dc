"""Headers on the command line, as a user gives and sees them: as processes."""

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

import kps.sync
from tests.cli.test_cli import KPS, PATIENCE, run
from tests.io.harness import Inbox

GIVEN = "--header", "traceparent=00-1-2-01", "--header", "kind=a=é", "--header", "empty="
TRACE = {"traceparent": "00-1-2-01", "kind": "a=é", "empty": ""}


@pytest.fixture
def server() -> Iterator[kps.sync.Server]:
    with kps.sync.Server("127.0.0.1:0", id="s", history=[kps.History("kept")]) as server:
        yield server


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_pub_sends_them(server: kps.sync.Server) -> None:
    inbox = Inbox()
    server.subscribe("t", inbox)
    to = "--address", server.address
    assert run("pub", "t", "1", *GIVEN, *to).returncode == 0
    assert run("pub", "t", "2", "--ack", *GIVEN, *to).returncode == 0
    assert run("pub", "t", "-", *GIVEN, *to, input="3\n4\n").returncode == 0
    assert run("pub", "t", "5", "--header", "a=1", "--header", "a=2", *to).returncode == 0
    messages = [inbox.get() for _ in range(5)]
    assert [message.data for message in messages] == [1, 2, 3, 4, 5]
    assert [message.headers for message in messages] == [*[TRACE] * 4, {"a": "2"}]


def test_req_sends_them(server: kps.sync.Server) -> None:
    inbox = Inbox()
    server.subscribe("t", inbox)
    server.on_id(inbox)
    to = "--address", server.address
    assert run("req", "t", "1", *GIVEN, *to).returncode == 0
    assert run("req", "--to", "s", "2", *GIVEN, *to).returncode == 0
    assert [inbox.get().headers for _ in range(2)] == [TRACE, TRACE]


def test_sub_and_history_show_them(server: kps.sync.Server) -> None:
    server.publish("kept", 1, headers=TRACE)
    server.publish("kept", 2)
    to = "--address", server.address
    shown = [
        lines(run(command, "kept", "--last", "2", *more, *to).stdout)
        for command, *more in (("sub", "--count", "2"), ("history",))
    ]
    for one, two in shown:
        assert (one["data"], one["headers"]) == (1, TRACE)
        assert (two["data"], "headers" in two) == (2, False)


@pytest.mark.parametrize("given", ["", "a", "=b", "=", "=="])
def test_what_is_no_header(given: str) -> None:
    for command in ("pub", "req"):
        result = run(command, "t", "1", "--header", given)
        assert (result.returncode, result.stdout) == (2, "")
        must = f"kps {command}: argument --header: must be NAME=TEXT"
        assert result.stderr.startswith(must)


def test_what_is_no_text(server: kps.sync.Server) -> None:
    result = subprocess.run(
        [*map(os.fsencode, (*KPS, "pub", "t", "1", "--address", server.address)),
         b"--header", b"a=\xff"],
        capture_output=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr == b"kps pub: argument --header: is not UTF-8 (see kps pub --help)\n"


def test_a_server_that_has_none() -> None:
    with kps.sync.Server("127.0.0.1:0", level=1) as old:
        for command in ("pub", "req"):
            result = run(command, "t", "1", *GIVEN, "--address", old.address)
            assert (result.returncode, result.stdout) == (1, "")
            assert result.stderr == f"kps {command}: the server does not have headers\n"


def test_those_that_are_too_large(server: kps.sync.Server) -> None:
    large = "--header", "a=" + "x" * 5000
    for more in ((), ("--ack",)):
        result = run("pub", "t", "1", *large, *more, "--address", server.address)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == "kps pub: the headers have more than 4096 bytes (the topic 't')\n"
