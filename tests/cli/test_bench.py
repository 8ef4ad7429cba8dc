"""The command ``kps bench``, alone and in several processes."""

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

import kps.sync
from kps.cli.bench_roles import _clients, _Count
from kps.cli.measuring import Load
from kps.protocol.bus.message import Message
from tests.cli.test_cli import KPS, PATIENCE, run
from tests.cli.test_groups import server
from tests.cli.test_terminal import Terminal
from tests.io.harness import eventually

__all__ = ["server"]


def load(rate: float | None, clients: int = 1) -> Load:
    return Load(address="", options={}, seconds=0.3, size=64, rate=rate, clients=clients, topic="t")


def moments(load: Load, began: float) -> list[float]:
    async def collect() -> list[float]:
        return [moment async for moment in load.moments(began)]

    return asyncio.run(collect())


class TestMoments:
    def test_each_that_is_due_comes_however_late(self) -> None:
        began = time.perf_counter() - 60
        found = moments(load(rate=300, clients=3), began)
        assert found == [began + number / 100 for number in range(30)]

    def test_without_a_rate_it_is_the_present_until_the_time_is_over(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told = iter([7.0, 7.2, 7.29, 7.31])
        clock = SimpleNamespace(perf_counter=told.__next__)
        monkeypatch.setattr("kps.cli.measuring.time", clock)
        assert moments(load(rate=None), 7.0) == [7.0, 7.2, 7.29]

    @pytest.mark.parametrize("rate", [None, 0.001])
    def test_there_is_one_at_least(self, rate: float | None) -> None:
        """However short the time is; and nobody waits for one that is due after it."""
        assert len(moments(replace(load(rate), seconds=1e-9), time.perf_counter())) == 1


def test_what_others_publish_is_not_counted() -> None:
    begun = asyncio.Event()
    count = _Count(begun)

    async def receive() -> None:
        payloads: list[object] = ["hello", "", "\xb2", "9" * 5000, None, {}, "7 xxx", "9"]
        for data in payloads:
            await count.received(Message("kps-bench", data, "somebody"))

    asyncio.run(receive())
    assert (count.messages, count.lost) == (2, 1)


def test_connecting_that_takes_too_long_says_how_far_it_came() -> None:
    ended: list[int] = []

    class Stalls:
        """All but two clients wait for the server."""

        clients = 5

        def __init__(self) -> None:
            self.made = 0

        @contextlib.asynccontextmanager
        async def new_client(self) -> AsyncIterator[int]:
            self.made += 1
            number = self.made
            if number > 2:
                await asyncio.Event().wait()
            try:
                yield number
            finally:
                ended.append(number)

    async def connect() -> None:
        async with _clients(cast("Load", Stalls()), 0.01):
            pytest.fail("they cannot be connected")

    about = "connecting took too long: 2 of 5 clients were connected within 0.01 s"
    with pytest.raises(kps.KPSError, match=about):
        asyncio.run(connect())
    assert ended == [2, 1]


class TestBench:
    def test_json(self, server: kps.sync.Server) -> None:
        result = run("bench", "--seconds", "0.05", "--json", "--address", server.address)
        assert (result.returncode, result.stderr) == (0, "")
        told = json.loads(result.stdout)
        assert (told["role"], told["seconds"], told["size"]) == ("all", 0.05, 64)
        measured = told["measurements"]
        assert list(measured) == ["throughput", "message", "acks", "acks_at_once"]
        assert all(measured[name]["per_second"] > 0 for name in measured if name != "message")
        figures = measured["message"]["seconds"]
        assert 0 < figures["min"] <= figures["p50"] <= figures["p99"] <= figures["max"]

    def test_a_rate(self, server: kps.sync.Server) -> None:
        """Each message is sent, however late, and the time counts from when it was due."""
        count: list[kps.Message] = []
        server.subscribe("t", count.append, inline=True)
        result = run("bench", "--rate", "200", "--seconds", "0.5", "--topic", "t", "--json",
                     "--address", server.address)  # fmt: skip
        told = json.loads(result.stdout)["measurements"]["on_time"]
        assert len(count) - 1 == 100  # and one by which it finds out whether it may publish
        assert 0 < told["per_second"] <= 200
        assert told["seconds"]["min"] > 0

    @pytest.mark.parametrize("rate", [[], ["--rate", "300"]], ids=["", "rate"])
    @pytest.mark.parametrize(
        ("first", "second", "name"), [("sub", "pub", "received"), ("answer", "ask", "answers")]
    )
    def test_roles(
        self, server: kps.sync.Server, first: str, second: str, name: str, rate: list[str]
    ) -> None:
        """One process waits for the other; their counts agree."""
        where = ("--address", server.address, "--topic", "t", "--json")
        waiting = subprocess.Popen(
            [*KPS, "bench", "--role", first, "--clients", "2", "--seconds", "60", *where],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

        def subscribers() -> int:
            return sum(one.topics for one in server.clients())

        eventually(lambda: subscribers() == 2, "the subscriptions")
        result = run("bench", "--role", second, "--clients", "3", "--seconds", "0.3", *rate, *where)
        assert (result.returncode, result.stderr) == (0, "")
        if first == "sub":  # they handle in order, so by then they have counted all others
            done = server.publish_with_ack("t", None, timeout=PATIENCE).wait()
            assert [one.success for one in done.values()] == [True, True]
        waiting.send_signal(signal.SIGINT)
        output, errors = waiting.communicate(timeout=PATIENCE)
        assert (waiting.returncode, errors) == (0, "")
        mine = json.loads(result.stdout)["measurements"]
        theirs = json.loads(output)["measurements"][name]
        if first == "sub":
            sent = mine["published"]["messages"]
            assert (theirs["messages"], theirs["lost"]) == (2 * sent, 0)
            assert ("p99" in mine["published"]["late_seconds"]) is bool(rate)
        else:
            assert theirs["requests"] == mine["answered"]["requests"]
            assert mine["answered"]["failed"] == 0
            assert 0 < mine["answered"]["seconds"]["p50"] <= mine["answered"]["seconds"]["max"]
        if rate:
            (count,) = (mine[one].get("messages", mine[one].get("requests")) for one in mine)
            assert count == 90

    def test_nobody_answers(self, server: kps.sync.Server) -> None:
        result = run("bench", "--role", "ask", "--seconds", "0.1", "--address", server.address)
        assert result.returncode == 1
        assert result.stderr == "kps bench: nobody takes requests to 'kps-bench'\n"

    def test_a_bar_on_a_terminal(self, server: kps.sync.Server) -> None:
        terminal = Terminal("bench", "--seconds", "0.3", "--address", server.address)
        assert terminal.end() == 0
        assert re.search(rb"\r\[#*\.*\] +\d+% \x1b\[K", terminal.shown)
        # The bar may come once more while the clients close. In the end the line is empty.
        _, _, rest = terminal.shown.rpartition(b"100 under way\r\n")
        assert re.fullmatch(rb"(\r\[#*\.*\] +\d+% \x1b\[K)*\r\x1b\[K", rest)

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (["--clients", "2"], "--clients is for one role: see --role"),
            (["--role", "sub", "--rate", "5"], "--rate is for those who send: --role sub does not"),
            (["--role", "judge"], "argument --role: must be one of all, pub, sub, ask, answer"),
        ],
    )
    def test_mistakes(self, arguments: list[str], error: str) -> None:
        result = run("bench", *arguments, KPS_ADDRESS="127.0.0.1:1")
        assert result.stderr.startswith(f"kps bench: {error}")
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
