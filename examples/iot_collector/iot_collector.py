"""Sensors, a collector that stores what they measure, and a dashboard with alarms.

    python examples/iot_collector/iot_collector.py

This program is the bus, and starts the rest: ``sensor.py``, ``collector.py`` and the page.
Arguments: the ports of the page (8000) and of the bus (9313); a file for the database, without
which it is gone at the end.
"""

import asyncio
import contextlib
import os
import secrets
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TypedDict

from sensor import Reading, Sensor

import kps

HERE = Path(__file__).parent
SENSORS = {"boiler": 64.0, "cellar": 11.0, "greenhouse": 24.0, "workshop": 19.0}  # usual °C
TOO_HOT = 8.0  # °C above the usual

# Who may do what. Each program has a token of its own; the page has none, and may look.
PERMISSIONS = {
    "collector": kps.Permissions(
        ids=["collector"],
        subscribe=["readings/*"],
        publish=["latest/*", "collector"],
        direct=[],
    ),
    **{
        name: kps.Permissions(
            ids=[name], subscribe=["sensors"], publish=[f"readings/{name}"], direct=[]
        )
        for name in SENSORS
    },
}
TOKENS = {name: secrets.token_urlsafe() for name in PERMISSIONS}
IDENTITIES = {TOKENS[name]: kps.Identity(name, PERMISSIONS[name]) for name in TOKENS}
DASHBOARD = kps.Permissions(
    ids=["dashboard-*"],
    subscribe=["latest/*", "alarms/*", "sensors", "collector"],
    presence=["sensors"],
    publish=["take-alarm"],
    direct=list(SENSORS),
    groups=[],
)


async def by_token(token: str) -> kps.Identity | None:
    """Tell whose a token is."""
    return IDENTITIES.get(token)


async def on_upgrade(request: kps.HttpRequest) -> kps.Identity | bool:
    """Let pages in as dashboards; with ``True`` the token decides."""
    has_token = bool(request.header("authorization"))
    return True if has_token else kps.Identity("dashboard", DASHBOARD)


class Alarm(TypedDict):
    """A sensor is too hot: how many dashboards show that, and who takes care."""

    celsius: float
    seen: int
    by: str


class Alarms:
    """Raises alarms. It belongs to the server's own program, and needs no connection."""

    def __init__(self, server: kps.Server) -> None:
        self._server = server
        self._open: dict[str, Alarm] = {}

    async def check(self, message: kps.Message[Reading]) -> None:
        """Begin an alarm with a reading that is too hot, and end it with one that is not."""
        sensor, celsius = message.topic.removeprefix("latest/"), message.data["celsius"]
        alarm = self._open.get(sensor)
        if celsius < SENSORS[sensor] + TOO_HOT:
            if self._open.pop(sensor, None):
                await self._server.publish(f"alarms/{sensor}", None)
        elif alarm is None or not alarm["seen"]:  # until somebody has seen it
            alarm = self._open[sensor] = Alarm(celsius=celsius, seen=0, by="")
            ack = await self._server.publish_with_ack(f"alarms/{sensor}", alarm, timeout=10)
            alarm["seen"] = sum(outcome.success for outcome in (await ack.wait()).values())
            if alarm["seen"]:
                await self._server.publish(f"alarms/{sensor}", alarm)

    async def take(self, message: kps.Message[dict[str, str]]) -> None:
        """Note who takes care. If the alarm is over, the page gets the error."""
        sensor = message.data["sensor"]
        if sensor not in self._open:
            raise kps.Refused("this alarm is over")
        self._open[sensor]["by"] = message.data["by"]
        await self._server.publish(f"alarms/{sensor}", self._open[sensor])


async def keep_collecting(address: str, file: str) -> None:
    """Start the collector, and another one whenever it has ended."""
    environment = {**os.environ, "COLLECTOR_TOKEN": TOKENS["collector"]}
    command = [sys.executable, str(HERE / "collector.py"), address, file]
    while True:
        process = await asyncio.create_subprocess_exec(*command, env=environment)
        try:
            await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        await asyncio.sleep(2)


class Page(BaseHTTPRequestHandler):
    """Serves the page, whose ``html`` names the bus."""

    html = b""

    def do_GET(self) -> None:
        """Answer a browser."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.html)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


async def main(page_port: str = "8000", bus_port: str = "9313", file: str = "") -> None:
    """Run all of it."""
    pages = ThreadingHTTPServer(("127.0.0.1", int(page_port)), Page)
    url = f"http://127.0.0.1:{pages.server_port}"
    server = kps.Server(
        f"127.0.0.1:{bus_port}",
        origins=[url],
        on_upgrade=on_upgrade,
        auth=by_token,
        history=[
            kps.History("latest/*", size=60),  # what a dashboard draws at first
            kps.History("alarms/*", size=1),
            kps.History("collector", size=1),
        ],
        limits=kps.ServerLimits(message_rate=100),
    )
    with tempfile.TemporaryDirectory() as folder:
        async with server, asyncio.TaskGroup() as tasks:
            alarms = Alarms(server)
            await server.subscribe(kps.Pattern("latest/*"), alarms.check)
            await server.subscribe("take-alarm", alarms.take)
            html = (HERE / "index.html").read_text(encoding="utf-8")
            Page.html = html.replace("localhost:9313", server.address).encode()
            Thread(target=pages.serve_forever, daemon=True).start()
            print(f"open {url} to see the sensors", flush=True)
            tasks.create_task(keep_collecting(server.address, file or f"{folder}/readings.db"))
            for name, usual in SENSORS.items():
                sensor = Sensor(name, usual)
                tasks.create_task(sensor.measure())
                tasks.create_task(sensor.deliver(server.address, TOKENS[name]))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
