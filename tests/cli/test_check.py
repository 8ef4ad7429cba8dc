"""The commands ``kps check`` and ``kps rtt``."""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import kps.sync
from tests.cli.test_cli import KPS, PATIENCE, Serve, run
from tests.cli.test_groups import server

__all__ = ["server"]


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[tuple[kps.sync.Server, str]]:
    """A server whose client may use the topic ``mine`` only, and its token."""
    token = "a-token-of-thirty-two-characters"
    file = tmp_path / "tokens.toml"
    file.touch(0o600)
    file.write_text(f'[me]\ntoken = "{token}"\npublish = ["mine"]\nsubscribe = ["mine"]\n')
    with kps.sync.Server("127.0.0.1:0", auth=kps.TokenFile(file)) as server:
        yield server, token


class TestCheck:
    def check(self, *arguments: str, **environment: str) -> tuple[int, str]:
        result = run("check", *arguments, **environment)
        assert result.stderr == ""
        assert result.stdout.count("\n") == 1
        return result.returncode, result.stdout.rstrip("\n")

    @pytest.mark.parametrize("more", [[], ["--topic", "t"]])
    def test_all_is_well(self, server: kps.sync.Server, more: list[str]) -> None:
        patient = ("--warning", "20", "--critical", "30")
        code, line = self.check("--address", server.address, *patient, *more)
        assert code == 0
        expected = r"KPS OK - round trip [0-9.]+ ms \| rtt=[0-9.]+s;20;30;0"
        assert re.fullmatch(expected, line)

    def test_a_slow_one(self, server: kps.sync.Server) -> None:
        limits = ("--warning", "0.000001", "--critical", "30")
        code, line = self.check("--address", server.address, *limits)
        assert code == 1
        assert line.startswith("KPS WARNING - round trip ")

    def test_one_that_stands_still(self) -> None:
        process = Serve("--address", "127.0.0.1:0")
        os.kill(process.process.pid, signal.SIGSTOP)
        try:
            code, line = self.check(
                "--address", process.url, "--critical", "0.2", "--warning", "0.1"
            )
        finally:
            process.process.kill()
            process.process.communicate()
        assert code == 2
        # It depends on what has gone on before, and so do the words.
        assert line.startswith(("KPS CRITICAL - cannot connect to ", "KPS CRITICAL - no answer"))

    def test_one_that_is_not_there(self) -> None:
        code, line = self.check("--address", "127.0.0.1:1")
        assert (code, line) == (
            2, "KPS CRITICAL - cannot connect to 127.0.0.1:1: connection refused"
        )  # fmt: skip

    def test_one_that_refuses(self, closed: tuple[kps.sync.Server, str]) -> None:
        server, token = closed
        patient = ("--address", server.address, "--warning", "20", "--critical", "30")
        code, line = self.check(*patient, KPS_TOKEN="wrong")
        assert code == 2
        assert "HTTP status 401 (the token, from the variable KPS_TOKEN, is not valid" in line
        assert self.check(*patient, KPS_TOKEN=token)[0] == 0  # a question needs no permission
        code, line = self.check(*patient, "--topic", "mine", KPS_TOKEN=token)
        assert code == 0
        code, line = self.check(*patient, "--topic", "other", KPS_TOKEN=token)
        assert code == 2
        assert line.startswith("KPS CRITICAL - cannot use the topic 'other': this client may not ")

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (["--warn", "5"], "there is no option --warn; did you mean --warning?"),
            (["--warning", "9"], "--warning is above --critical"),
            (["--critical", "x"], "argument --critical: must be a number of seconds"),
            (["--address", "x:99999"], "not a server address: 'x:99999'"),
        ],
    )
    def test_mistakes(self, arguments: list[str], reason: str) -> None:
        code, line = self.check(*arguments)
        assert code == 3
        assert line.startswith(f"KPS UNKNOWN - {reason}")

    def test_ctrl_c_is_not_all_is_well(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = "{}:{}".format(*silent.getsockname())
            process = subprocess.Popen(
                [*KPS, "check", "--address", address, "--critical", "60"],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            silent.settimeout(PATIENCE)
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                output, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (3, "")
        assert output == "KPS UNKNOWN - Ctrl-C has ended it\n"

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
    @pytest.mark.parametrize("is_there", [True, False])
    def test_an_output_that_cannot_be_written(
        self, server: kps.sync.Server, is_there: bool
    ) -> None:
        address = server.address if is_there else "127.0.0.1:1"
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [*KPS, "check", "--address", address, "--warning", "20", "--critical", "30"],
                stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False,
            )  # fmt: skip
        assert done.returncode == 3
        assert done.stderr == "kps check: cannot write the output: no space left on device\n"


class TestRtt:
    def test_each_and_all(self, server: kps.sync.Server) -> None:
        result = run("rtt", "--count", "3", "--interval", "0.01", "--address", server.address)
        assert (result.returncode, result.stderr) == (0, "")
        *each, last = result.stdout.splitlines()
        assert [re.fullmatch(r"(\d): [0-9.]+ ms", line) is not None for line in each] == [True] * 3
        assert re.match(r"3 round trips: min [0-9.]+, p50 ", last)

    def test_json(self, server: kps.sync.Server) -> None:
        result = run("rtt", "--count", "2", "--size", "1000", "--json", "--address", server.address)
        told = json.loads(result.stdout)
        assert (told["round_trips"], told["lost"]) == (2, 0)
        figures = list(told["seconds"].values())
        assert list(told["seconds"]) == ["min", "p50", "p90", "p99", "p99.9", "max"]
        assert 0 < figures[0] <= figures[1] <= figures[-1]

    def test_ctrl_c_tells_what_there_is(self, server: kps.sync.Server) -> None:
        process = subprocess.Popen(
            [*KPS, "rtt", "--count", "1000000", "--address", server.address],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().startswith("1: ")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (0, "")
        assert re.search(r"^\d+ round trips: min ", output, re.M)

    def test_a_topic_that_is_refused(self, closed: tuple[kps.sync.Server, str]) -> None:
        server, token = closed
        result = run("rtt", "--address", server.address, KPS_TOKEN=token)
        assert result.returncode == 1
        assert result.stderr.endswith(
            "may not subscribe to this topic; --topic names another one\n"
        )
        assert result.stderr.startswith("kps rtt: cannot use the topic 'kps-rtt-")
        few = ("--count", "1", "--topic", "mine")
        assert run("rtt", *few, "--address", server.address, KPS_TOKEN=token).returncode == 0
