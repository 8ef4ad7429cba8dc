"""The commands ``kps req`` and ``kps reply``, as a user runs them: as processes."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kps.sync
from tests.cli.test_cli import KPS, PATIENCE, run
from tests.cli.test_groups import is_subscribed, server
from tests.io.harness import eventually

__all__ = ["server"]


class TestReq:
    def req(self, server: kps.sync.Server, *arguments: str) -> tuple[int, str, str]:
        result = run("req", *arguments, "--address", server.address)
        return result.returncode, result.stdout, result.stderr

    def test_the_result(self, server: kps.sync.Server) -> None:
        server.subscribe("t", lambda message: message.data)
        assert self.req(server, "t", '{"n": [1, "é"]}') == (0, '{"n":[1,"é"]}\n', "")
        assert self.req(server, "t", "--timeout", "9", "text") == (0, '"text"\n', "")
        assert self.req(server, "t", "null") == (0, "null\n", "")

    def test_of_one_client(self, server: kps.sync.Server) -> None:
        def double(message: kps.Message) -> int:
            return 2 * int(message.data)

        with kps.sync.Client(server.address, id="bob", on_id=double):
            assert self.req(server, "--to", "bob", "21") == (0, "42\n", "")
            assert self.req(server, "21", "--to", "bob") == (0, "42\n", "")
        nobody = "kps req: nobody takes requests to 'bob'\n"
        eventually(lambda: self.req(server, "--to", "bob", "21") == (3, "", nobody), "its end")

    def test_nobody_there(self, server: kps.sync.Server) -> None:
        assert self.req(server, "t", "1") == (3, "", "kps req: nobody takes requests to 't'\n")

    def test_no_answer_in_time(self, server: kps.sync.Server) -> None:
        with kps.sync.Client(server.address) as silent:
            messages = silent.subscribe("t")
            code, output, errors = self.req(server, "t", "1", "--timeout", "0.2")
            del messages
        none = "kps req: no answer to the request to 't' in time\n"
        assert (code, output, errors) == (4, "", none)

    def test_failures(self, server: kps.sync.Server) -> None:
        def fail(message: kps.Message) -> None:
            raise ValueError(message.data)

        with contextlib.ExitStack() as stack:
            for number in range(5):
                client = stack.enter_context(kps.sync.Client(server.address, id=f"w{number}"))
                client.subscribe("several", fail)
            client.subscribe("one", fail, group="g")
            code, output, errors = self.req(server, "one", "no\nspace")
            told = "kps req: the request to 'one' failed: w4: no\\u000aspace\n"
            assert (code, output, errors) == (1, "", told)
            code, output, errors = self.req(server, "several", "x")
        assert (code, output, errors.count("\n")) == (1, "", 1)
        assert errors.count(": x; ") == 3
        assert errors.endswith("; and 2 more\n")

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (["t"], "kps req: the following arguments are required: DATA"),
            (
                ["t", "1", "--to", "bob"],
                "kps req: a client has no topics: with --to there is",
            ),
            (["t", "1", "--to", ""], "kps req: argument --to: must be a name that is not empty"),
            (["", "1"], "kps req: a topic is a text that is not empty"),
        ],
    )
    def test_mistakes(self, server: kps.sync.Server, arguments: list[str], error: str) -> None:
        code, output, errors = self.req(server, *arguments)
        assert (code, output, errors.count("\n")) == (2, "", 1)
        assert errors.startswith(error)


Reply = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def reply(server: kps.sync.Server) -> Iterator[Reply]:
    """Start a ``kps reply`` to the topic ``t``; it is killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*command: str, options: tuple[str, ...] = (), name: str = "w") -> Any:
        given = ["t", *options, "--id", name, "--address", server.address, "--", *command]
        process = subprocess.Popen([*KPS, "reply", *given], stderr=subprocess.PIPE, text=True)
        started.append(process)
        eventually(lambda: is_subscribed(server, name), "the subscription")
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def script(program: str) -> tuple[str, ...]:
    return sys.executable, "-c", program


class TestReply:
    @pytest.mark.parametrize(
        ("output", "result"),
        [
            ('{"a": [1, 2.50]}', {"a": [1, 2.5]}),
            ("7\n", 7),
            ("two\nlines\n", "two\nlines"),
            ("007", "007"),
            ("", None),
        ],
    )
    def test_the_output_is_the_result(
        self, server: kps.sync.Server, reply: Reply, output: str, result: Any
    ) -> None:
        reply(*script(f"print({output!r}, end='')"))
        assert server.request("t", 1, timeout=PATIENCE) == result

    def test_the_payload_is_on_its_input(self, server: kps.sync.Server, reply: Reply) -> None:
        reply(*script("import sys; print(repr(sys.stdin.read()))"))
        assert server.request("t", {"a": ["é", None]}, timeout=PATIENCE) == (
            repr('{"a":["é",null]}\n')
        )
        assert server.request("t", "text", timeout=PATIENCE) == repr('"text"\n')

    def test_a_command_that_reads_nothing(self, server: kps.sync.Server, reply: Reply) -> None:
        reply(*script("print('done')"))
        assert server.request("t", "x" * 500_000, timeout=PATIENCE) == "done"

    def test_what_it_is_told_besides(self, server: kps.sync.Server, reply: Reply) -> None:
        names = "KPS_TOPIC", "KPS_FROM", "KPS_ATTEMPT"
        reply(*script(f"import os, sys; print([os.environ[n] for n in {names}], sys.argv[1:])"),
              "--", "--group", "x")  # fmt: skip
        told = server.request("t", 1, timeout=PATIENCE)
        assert told == "['t', 'boss', '1'] ['--', '--group', 'x']"

    @pytest.mark.parametrize(
        ("program", "error", "shown"),
        [
            ("print('one\\n\\n  no space left\\n', file=sys.stderr); sys.exit(3)",
             "  no space left", "one\n  no space left\n"),
            ("sys.exit(3)", "exit code 3", "kps reply: exit code 3\n"),
            ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL",
             "kps reply: ended by SIGKILL\n"),
            ("sys.stdout.buffer.write(b'\\xff')", "the output is not UTF-8",
             "kps reply: the output is not UTF-8\n"),
        ],
    )  # fmt: skip
    def test_failures(
        self, server: kps.sync.Server, reply: Reply, program: str, error: str, shown: str
    ) -> None:
        process = reply(*script(f"import sys; {program}"))
        with pytest.raises(kps.RequestFailed) as failed:
            server.request("t", 1, timeout=PATIENCE)
        assert failed.value.errors == {"w": error}
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (0, shown)

    def test_a_command_that_is_removed(
        self, server: kps.sync.Server, reply: Reply, tmp_path: Path
    ) -> None:
        program = tmp_path / "program"
        program.write_text(f"#!{sys.executable}\nprint(1)\n")
        program.chmod(0o755)
        reply(str(program))
        assert server.request("t", 1, timeout=PATIENCE) == 1
        program.unlink()
        with pytest.raises(kps.RequestFailed, match=r"cannot run '.*program': no such file"):
            server.request("t", 1, timeout=PATIENCE)
        program.write_text(f"#!{sys.executable}\nprint(2)\n")
        program.chmod(0o755)
        assert server.request("t", 1, timeout=PATIENCE) == 2

    @pytest.mark.parametrize("options", [(), ("--group", "g")], ids=["alone", "in a group"])
    def test_several_at_a_time(
        self, server: kps.sync.Server, reply: Reply, tmp_path: Path, options: tuple[str, ...]
    ) -> None:
        """Each waits until the others have begun."""
        begun = str(tmp_path)
        program = (
            "import os, tempfile, time\n"
            f"tempfile.mkstemp(dir={begun!r})\n"
            f"while len(os.listdir({begun!r})) < 3: time.sleep(0.01)\n"
        )
        reply(*script(program), options=("--concurrency", "3", *options))
        acks = [server.publish_with_ack("t", n, timeout=PATIENCE) for n in range(3)]
        assert all(one.success for ack in acks for one in ack.wait().values())

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_another_member_handles_what_one_is_killed_with(
        self, server: kps.sync.Server, reply: Reply, tmp_path: Path, number: int
    ) -> None:
        group = "--group", "g"
        begun = tmp_path / "begun"
        os.mkfifo(begun)
        # Nobody ends the command of a victim that is killed, so it ends by itself.
        program = f"import signal\nsignal.alarm(30)\nopen({str(begun)!r}, 'w').close()\n"
        program += "signal.pause()\n"
        victim = reply(*script(program), options=group, name="victim")
        ack = server.publish_with_ack("t", 1, timeout=PATIENCE)
        begun.read_text()  # when the command has begun
        reply(*script("import os; print(os.environ['KPS_ATTEMPT'])"), options=group, name="heir")
        victim.send_signal(number)
        (outcome,) = ack.wait().values()
        assert isinstance(outcome, kps.GroupResponse)
        assert (outcome.success, outcome.result) == (True, 2)
        assert (outcome.client_id, outcome.attempts) == ("heir", 2)
        assert outcome.failures == (("victim", "disconnected"),)
        _, errors = victim.communicate(timeout=PATIENCE)
        expected = -number if number == signal.SIGKILL else 0
        assert (victim.returncode, errors) == (expected, "")

    def test_it_ends_with_all_that_its_command_has_started(
        self, server: kps.sync.Server, reply: Reply, tmp_path: Path
    ) -> None:
        begun = tmp_path / "begun"
        os.mkfifo(begun)
        child = f"import os, signal; open({str(begun)!r}, 'w').write('x'); signal.pause()"
        program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
        process = reply(*script(program))
        server.publish("t", 1)
        assert begun.read_text() == "x"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE)  # until nobody has its pipe
        assert (process.returncode, errors) == (0, "")

    def test_the_server_ends(self, server: kps.sync.Server, reply: Reply) -> None:
        process = reply("true")
        server.stop()
        _, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors.count("\n")) == (1, 1)
        assert errors.startswith("kps reply: ")

    def test_it_waits_for_a_server_that_is_down(self) -> None:
        with kps.sync.Server("127.0.0.1:0") as server:
            address = server.address
        process = subprocess.Popen(
            [*KPS, "reply", "t", "--reconnect", "--address", address, "--", "true"],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            with kps.sync.Server(address) as server:
                eventually(lambda: server.count_subscribers("t")[1] == 1, "the subscription")
                assert server.request("t", 1, timeout=PATIENCE) is None
        finally:
            process.kill()
            process.communicate()

    @pytest.mark.parametrize(
        ("arguments", "code", "error"),
        [
            (["t"], 2, "kps reply: name a COMMAND behind --, or give either"),
            (["t", "--"], 2, "kps reply: name a COMMAND behind --, or give either"),
            (["t", "--", "nonsuch"], 2, "kps reply: there is no command 'nonsuch' "),
            (["t", "cat"], 2, "kps reply: there are too many arguments: 'cat'; COMMAND stands "),
            (["--", "cat"], 2, "kps reply: the following arguments are required: TOPIC "),
            (["t", "--group", "", "--", "cat"], 2, "kps reply: argument --group: must be a name "),
            (["t", "--group", "g", "--", "cat"], 1,
             "kps reply: cannot subscribe to 't': the server does not have groups\n"),
        ],
    )  # fmt: skip
    def test_mistakes(self, arguments: list[str], code: int, error: str) -> None:
        with kps.sync.Server("127.0.0.1:0", level=1) as server:
            result = run("reply", *arguments, KPS_ADDRESS=server.address)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (code, "", 1)
        assert result.stderr.startswith(error)


@pytest.mark.parametrize("command", ["sub", "pub", "req", "reply"])
def test_help_has_an_example(command: str) -> None:
    text = run(command, "--help").stdout
    assert f"Examples: kps {command} " in " ".join(text.split())
    assert text.isascii()
