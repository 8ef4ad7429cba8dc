"""``examples/monitoring``: figures of this machine, agents that fall silent, and answers."""

import importlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import kps
import kps.sync
from tests.examples.harness import EXAMPLES, PATIENCE, Program, running, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the agents read /proc")
AGENTS = {"ash", "birch"}


class Operator:
    """What the page of an operator sees."""

    def __init__(self, client: kps.sync.Client) -> None:
        self.client = client
        self.figures: dict[str, list[dict[str, float]]] = {name: [] for name in AGENTS}
        self.processes: dict[str, int] = {}
        self.left: dict[str, str] = {}
        client.subscribe(kps.Pattern("figures/*"), self._figures, last=180)
        client.subscribe("agents", lambda message: None, presence=self._presence)

    def _figures(self, message: kps.Message) -> None:
        self.figures[message.topic.removeprefix("figures/")].append(message.data)

    def _presence(self, now: kps.Presence) -> None:
        self.left |= now.left
        for name, info in (now.members or {}).items():
            if info is not None:
                self.processes[name] = info["process"]


@contextmanager
def operating(program: Program, name: str) -> Iterator[Operator]:
    found = re.search(r"#(\S+)", program.first_line)
    assert found
    with kps.sync.Client(program.bus(), id=f"operator-{name}", token=found[1]) as client:
        yield Operator(client)


def is_silent(operator: Operator, name: str, while_tells: str) -> bool:
    """Tell whether one agent says nothing while another one tells its figures three times.

    If it did say something, that may have been under way before.
    """
    count, other = len(operator.figures[name]), operator.figures[while_tells]
    enough = len(other) + 3
    until(lambda: len(other) >= enough)
    return len(operator.figures[name]) == count


def test_charts_with_the_past_and_an_agent_that_falls_silent() -> None:
    with running("monitoring", "0", "0") as program:
        with operating(program, "1") as first:
            until(lambda: all(len(figures) >= 3 for figures in first.figures.values()))
        with operating(program, "2") as late:
            until(lambda: late.processes.keys() == AGENTS)
            until(lambda: all(len(figures) >= 3 for figures in late.figures.values()))
            for name in AGENTS:
                assert late.figures[name][:3] == first.figures[name][:3]
                for figures in late.figures[name]:
                    assert all(0 <= figures[one] <= 100 for one in ("cpu", "memory", "disk"))
            disk = shutil.disk_usage("/")
            told = late.figures["ash"][-1]["disk"]
            assert told == pytest.approx(100 * disk.used / (disk.used + disk.free), abs=10)

            os.kill(late.processes["ash"], signal.SIGSTOP)
            until(lambda: is_silent(late, "ash", while_tells="birch"))
            count = len(late.figures["ash"])
            with pytest.raises(kps.RequestTimeout):
                late.client.request_to_id("ash", "uptime", timeout=0.5)
            os.kill(late.processes["ash"], signal.SIGCONT)
            until(lambda: len(late.figures["ash"]) >= count + 3)

            os.kill(late.processes["ash"], signal.SIGKILL)
            until(lambda: late.left == {"ash": "lost"})
            with pytest.raises(kps.NobodyThere):
                late.client.request_to_id("ash", "uptime", PATIENCE)
        assert program.interrupt() == ""


def test_one_agent_is_asked_and_answers() -> None:
    with running("monitoring", "0", "0") as program:
        with operating(program, "1") as operator:
            client = operator.client
            until(lambda: operator.processes.keys() == AGENTS)
            rows = client.request_to_id("birch", "top", PATIENCE)
            assert len(rows) == 5
            assert [row["cpu %"] for row in rows] == sorted(
                (row["cpu %"] for row in rows), reverse=True
            )
            (row,) = client.request_to_id("birch", "uptime", PATIENCE)
            assert row["hours"] > 0
            with pytest.raises(kps.RequestFailed, match="no such command: reboot"):
                client.request_to_id("birch", "reboot", PATIENCE)
            for topic in ("figures/ash", "agents"):
                with pytest.raises(kps.ServerError, match="may not"):
                    client.publish_with_receipt(topic, {})
            with pytest.raises(kps.ServerError, match="token"):
                kps.sync.Client.connect(program.bus(), reconnect=False)
        program.interrupt()


def test_an_agent_may_do_its_own_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES / "monitoring")
    example = importlib.import_module("monitoring")
    with kps.sync.Server("127.0.0.1:0", auth=example.IDENTITIES.get) as server:
        token = example.TOKENS["ash"]
        with kps.sync.Client(server.address, id="ash", token=token) as ash:
            ash.publish_with_receipt("figures/ash", {})
            with pytest.raises(kps.ServerError, match="may not"):
                ash.publish_with_receipt("figures/birch", {})
            with pytest.raises(kps.ServerError, match="may not"):
                ash.request_to_id("birch", "top")
            with pytest.raises(kps.ServerError, match="may not"):
                ash.subscribe("figures/birch", print)
        with pytest.raises(kps.ServerError, match="may not use this id"):
            kps.sync.Client.connect(server.address, id="birch", token=token)


def test_the_figures_are_those_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES / "monitoring")
    agent = importlib.import_module("agent")
    least = time.process_time()
    _, ticks = agent.processes()[str(os.getpid())]
    assert least - 0.1 <= ticks / agent.TICKS <= time.process_time() + 0.1
    before, after = agent.cpu_times(), agent.cpu_times()
    assert all(earlier <= later for earlier, later in zip(before, after, strict=True))
    assert 0 < after[0] < after[1]
    assert 0 < agent.memory() < 100
