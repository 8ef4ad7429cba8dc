"""``examples/iot_collector``: no reading is lost, and alarms are seen."""

import asyncio
import importlib
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import kps
import kps.sync
from tests.examples.harness import EXAMPLES, PATIENCE, running, until


def numbers(file: Path) -> dict[str, list[int]]:
    """The numbers of the stored readings, by sensor, as they were measured."""
    database = sqlite3.connect(file)
    found: dict[str, list[int]] = {}
    for sensor, number in database.execute("SELECT sensor, number FROM readings ORDER BY time"):
        found.setdefault(sensor, []).append(number)
    database.close()
    return found


def without_gap(stored: dict[str, list[int]]) -> bool:
    return all(found == list(range(1, len(found) + 1)) for found in stored.values())


class Dashboard:
    """What a dashboard sees."""

    def __init__(self, client: kps.sync.Client) -> None:
        self.client = client
        self.process = 0
        self.latest: dict[str, int] = {}
        self.alarms: list[dict[str, Any] | None] = []
        self.members: set[str] = set()
        client.subscribe("collector", self._started, last=1)
        client.subscribe(kps.Pattern("latest/*"), self._reading, last=60)
        client.subscribe(kps.Pattern("alarms/*"), self._alarm, last=1)
        client.subscribe("sensors", lambda message: None, presence=self._presence)

    def has_all(self, least: int) -> bool:
        return len(self.latest) == 4 and min(self.latest.values()) >= least

    def _started(self, message: kps.Message) -> None:
        self.process = message.data["process"]

    def _reading(self, message: kps.Message) -> None:
        self.latest[message.topic.removeprefix("latest/")] = message.data["number"]

    def _alarm(self, message: kps.Message) -> None:
        self.alarms.append(message.data)

    def _presence(self, now: kps.Presence) -> None:
        self.members = set(now.members or ()) - {self.client.id}


def test_a_collector_that_is_killed_costs_no_reading(tmp_path: Path) -> None:
    file = tmp_path / "readings.db"
    with running("iot_collector", "0", "0", str(file)) as program:
        with kps.sync.Client(program.bus(), id="dashboard-1") as client:
            dashboard = Dashboard(client)
            until(lambda: dashboard.has_all(3))
            first = dashboard.process
            os.kill(first, signal.SIGKILL)
            until(lambda: dashboard.process != first)
            last = max(dashboard.latest.values())
            until(lambda: dashboard.has_all(last + 8))
        assert program.interrupt() == ""
    stored = numbers(file)
    assert len(stored) == 4
    assert without_gap(stored)


def test_a_sensor_without_power_is_missed_and_catches_up(tmp_path: Path) -> None:
    file = tmp_path / "readings.db"
    with running("iot_collector", "0", "0", str(file)) as program:
        with kps.sync.Client(program.bus(), id="dashboard-1") as client:
            dashboard = Dashboard(client)
            until(lambda: len(dashboard.members) == 4 and dashboard.has_all(1))
            client.request_to_id("cellar", "unplug", PATIENCE)
            until(lambda: dashboard.members == {"boiler", "greenhouse", "workshop"})
            before = dashboard.latest["cellar"]
            until(lambda: len(dashboard.members) == 4)
            until(lambda: dashboard.latest["cellar"] >= before + 8)
            with pytest.raises(kps.RequestFailed, match="a sensor cannot dance"):
                client.request_to_id("cellar", "dance", PATIENCE)
        program.interrupt()
    assert without_gap(numbers(file))


def test_an_alarm_is_seen_taken_and_over() -> None:
    with running("iot_collector", "0", "0") as program:
        with kps.sync.Client(program.bus(), id="dashboard-1") as client:
            dashboard = Dashboard(client)
            until(lambda: len(dashboard.members) == 4 and dashboard.has_all(1))
            client.request_to_id("boiler", "heat", PATIENCE)
            until(lambda: any(alarm and alarm["seen"] == 1 for alarm in dashboard.alarms))
            client.request("take-alarm", {"sensor": "boiler", "by": "ann"}, PATIENCE)
            until(lambda: any(alarm and alarm["by"] == "ann" for alarm in dashboard.alarms))
            client.request_to_id("boiler", "heat", PATIENCE)  # no more
            until(lambda: dashboard.alarms[-1] is None)
            with pytest.raises(kps.RequestFailed, match="over"):
                client.request("take-alarm", {"sensor": "boiler", "by": "ann"}, PATIENCE)
        program.interrupt()


def test_each_may_do_its_own_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES / "iot_collector")
    example = importlib.import_module("iot_collector")

    async def run() -> None:
        options = {"on_upgrade": example.on_upgrade, "auth": example.by_token}
        async with kps.Server("127.0.0.1:0", **options) as server:
            cellar = kps.Client(server.address, id="cellar", token=example.TOKENS["cellar"])
            async with cellar, kps.Client(server.address, id="dashboard-1") as dashboard:
                await cellar.publish_with_receipt("readings/cellar", {})
                for client, topic in (
                    (cellar, "readings/boiler"),
                    (cellar, "latest/cellar"),
                    (dashboard, "readings/cellar"),
                    (dashboard, "latest/cellar"),
                    (dashboard, "alarms/cellar"),
                ):
                    with pytest.raises(kps.ServerError, match="may not"):
                        await client.publish_with_receipt(topic, {})
            for client_id, token in (("boiler", example.TOKENS["cellar"]), ("cellar", None)):
                with pytest.raises(kps.ServerError, match="may not use this id"):
                    await kps.Client.connect(server.address, id=client_id, token=token)
            with pytest.raises(kps.ConnectFailed, match="401"):
                await kps.Client.connect(server.address, id="cellar", token="guessed")
        assert await example.by_token("café") is None

    asyncio.run(run())
