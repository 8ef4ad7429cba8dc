"""Ids of messages on the command line: as processes."""

from collections.abc import Iterator

import pytest

import kps.sync
from tests.cli.test_cli import run
from tests.io.harness import Inbox


@pytest.fixture
def server() -> Iterator[kps.sync.Server]:
    with kps.sync.Server("127.0.0.1:0", id="s") as server:
        yield server


def test_a_repeat_is_answered_and_not_handled(server: kps.sync.Server) -> None:
    inbox = Inbox()

    def double(message: kps.Message[int]) -> int:
        inbox(message.data)
        return 2 * message.data

    server.subscribe("t", double)
    server.on_id(double)
    to = "--id", "me", "--address", server.address
    for number, command in enumerate(
        (
            ("req", "t", "4"),
            ("req", "--to", "s", "4"),
            ("pub", "t", "4"),
            ("pub", "t", "4", "--ack"),
        )
    ):
        first, second = (run(*command, "--message-id", f"m{number}", *to) for _ in range(2))
        assert (first.returncode, first.stderr) == (0, "")
        assert (second.returncode, second.stdout) == (0, first.stdout)
        assert inbox.get() == 4
    assert inbox.is_empty()


@pytest.mark.parametrize("command", [("pub", "t", "1"), ("req", "t", "1")])
def test_without_the_id_of_a_client_it_means_nothing(command: tuple[str, ...]) -> None:
    refused = run(*command, "--message-id", "m", "--address", "127.0.0.1:1")
    assert refused.returncode == 2
    assert "--message-id needs --id" in refused.stderr


@pytest.mark.parametrize("command", [("pub", "t", "1"), ("req", "t", "1")])
def test_an_empty_one_is_a_mistake(command: tuple[str, ...]) -> None:
    """Such as a variable of the shell that is not set."""
    refused = run(*command, "--message-id", "", "--id", "me", "--address", "127.0.0.1:1")
    assert refused.returncode == 2
    assert "--message-id is a text that is not empty" in refused.stderr


def test_many_messages_have_no_one_id() -> None:
    refused = run(
        *("pub", "t", "-", "--message-id", "m", "--id", "me", "--address", "127.0.0.1:1"), input="1"
    )
    assert refused.returncode == 2
    assert "--message-id is that of one message" in refused.stderr
