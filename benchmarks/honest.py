"""The process of honest clients: ``honest.py ADDRESS OPTIONS``, started by ``attacks.py``.

They stand in a ring: each publishes to the next one's topic, ten times a second, and asks it for
an ack once a second. Beside them a newcomer connects and leaves four times a second. What they
notice is counted by phases, which lines of input begin; the last line is ``report``.
"""

import asyncio
import json
import logging
import ssl
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import kps
from kps.io_asyncio.loop import run
from kps.io_asyncio.runtime import Runtime
from kps.protocol.dialect.address import Address

CLIENTS = 20
RATE = 10.0
"""Messages a second of each."""
ASKS = 1.0
NEWCOMERS = 4.0
TICK = 0.005
PATIENCE = 90.0
"""Seconds for everything to be as before, once an attack is over."""
STATS = "__kps/stats"


class Sourced(Runtime):
    """Connects from an address of its own: limits for each address are not for all together."""

    _numbers = count(2)

    async def connect(
        self,
        protocol: Callable[[], asyncio.Protocol],
        address: Address,
        tls: ssl.SSLContext | None,
        timeout: float,
    ) -> None:
        number = next(self._numbers)
        source = f"127.0.{2 + number // 250}.{1 + number % 250}", 0
        async with asyncio.timeout(timeout):
            await self.loop.create_connection(
                protocol, address.host, address.port, ssl=tls, local_addr=source
            )


class Client(kps.Client):
    """One of them."""

    _new_runtime = Sourced


class Phase:
    """What was noticed of the messages that were published in this phase."""

    def __init__(self) -> None:
        self.trips: list[float] = []
        self.acks: list[float] = []
        self.lags: list[float] = []
        self.comings: list[float] = []
        """Seconds that newcomers took."""
        self.gap = 0.0
        """The longest time in which nobody received anything."""
        self.counts: Counter[str] = Counter()

    def report(self) -> dict[str, Any]:
        lost = self.counts["sent"] - len(self.trips)
        # What never came took at least as long as anything that was seen.
        longest = max([self.gap, *self.trips])
        return {
            "trip": percentiles(self.trips + [longest] * lost),
            "ack": percentiles(self.acks),
            "lag": percentiles(self.lags),
            "coming": percentiles(self.comings),
            "gap": self.gap,
            "came": len(self.comings),
            "lost": lost,
            **{
                name: self.counts[name]
                for name in ("sent", "disconnected", "unsent", "unacked", "turned_away")
            },
        }


class Crowd:
    """All of them."""

    def __init__(self, address: str, options: dict[str, Any]) -> None:
        self.phases: dict[str, Phase] = defaultdict(Phase)
        self.name = "calm"
        self.figures: dict[str, Any] = {}
        self._address = address
        self._options = options
        self._clients: list[Client] = []
        self._latest = [0.0] * CLIENTS
        """When the latest message that arrived was published, by receiver."""
        self._arrived = time.perf_counter()

    @property
    def phase(self) -> Phase:
        return self.phases[self.name]

    async def start(self) -> None:
        for number in range(CLIENTS):
            client = await Client.connect(
                self._address,
                id=f"honest-{number}",
                on_disconnect=self._disconnected,
                **self._options,
            )
            self._clients.append(client)
            await client.subscribe(f"honest/{number}", self._receiver(number))
        await self._clients[0].subscribe(STATS, self._observe)

    async def live(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._newcomers(group))
            for number in range(CLIENTS):
                group.create_task(self._publish(number))
                group.create_task(self._ask_all(group, number))

    async def settle(self) -> float:
        """Wait until messages pass between all of them as before; return how long it took."""
        since = time.perf_counter()
        while not all(latest > since for latest in self._latest):
            if time.perf_counter() - since > PATIENCE:
                break
            await asyncio.sleep(0.02)
        took = time.perf_counter() - since
        self.phase.gap = max(self.phase.gap, time.perf_counter() - self._arrived)
        stamp = self.figures.get("uptime")
        for _ in range(300):
            if self.figures.get("uptime") != stamp:
                break
            await asyncio.sleep(0.01)
        return took

    def _receiver(self, number: int) -> Callable[[kps.Message], Any]:
        async def receive(message: kps.Message) -> None:
            if message.wants_ack:
                return
            now = time.perf_counter()
            sent: float = message.data["t"]
            phase = self.phases[message.data["phase"]]
            phase.trips.append(now - sent)
            self._latest[number] = sent
            current = self.phase
            current.gap = max(current.gap, now - self._arrived)
            self._arrived = now

        return receive

    async def _observe(self, message: kps.Message) -> None:
        self.figures = message.data

    async def _disconnected(self, event: kps.Disconnected) -> None:
        self.phase.counts["disconnected"] += 1

    async def _publish(self, number: int) -> None:
        topic = f"honest/{(number + 1) % CLIENTS}"
        due = time.perf_counter() + number / CLIENTS / RATE
        while True:
            await asyncio.sleep(due - time.perf_counter())
            due += 1 / RATE
            name = self.name
            try:
                now = time.perf_counter()
                await self._clients[number].publish(topic, {"t": now, "phase": name})
                self.phases[name].counts["sent"] += 1
            except kps.KPSError:
                self.phases[name].counts["unsent"] += 1

    async def _ask_all(self, group: asyncio.TaskGroup, number: int) -> None:
        await asyncio.sleep(number / CLIENTS / ASKS)
        while True:
            group.create_task(self._ask(number))
            await asyncio.sleep(1 / ASKS)

    async def _ask(self, number: int) -> None:
        phase = self.phase
        began = time.perf_counter()
        try:
            topic = f"honest/{(number + 1) % CLIENTS}"
            ack = await self._clients[number].publish_with_ack(topic, None, 60)
            outcomes = (await ack.wait()).values()
        except kps.KPSError:
            phase.counts["unacked"] += 1
            return
        phase.acks.append(time.perf_counter() - began)
        if not outcomes or not all(outcome.success for outcome in outcomes):
            phase.counts["unacked"] += 1

    async def _newcomers(self, group: asyncio.TaskGroup) -> None:
        for number in count():
            group.create_task(self._come(number))
            await asyncio.sleep(1 / NEWCOMERS)

    async def _come(self, number: int) -> None:
        phase = self.phase
        began = time.perf_counter()
        try:
            client = await Client.connect(
                self._address, id=f"newcomer-{number}", reconnect=False, **self._options
            )
        except (kps.KPSError, TimeoutError):
            phase.counts["turned_away"] += 1
            return
        phase.comings.append(time.perf_counter() - began)
        await client.close()

    async def _watch(self) -> None:
        """How late this process itself is: what it cannot measure of the server."""
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK)
            self.phase.lags.append(max(0.0, time.perf_counter() - before - TICK))


def percentiles(times: Sequence[float]) -> dict[str, float]:
    """In milliseconds."""
    ordered = sorted(times) or [0.0]
    found = {
        name: ordered[min(len(ordered) - 1, int(len(ordered) * part))]
        for name, part in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    }
    return {name: round(value * 1000, 2) for name, value in found.items()}


async def main(address: str, text: str) -> None:
    logging.getLogger("kps").setLevel(logging.CRITICAL)  # what goes wrong is counted
    options = json.loads(text)
    if authority := options.pop("authority", None):
        options |= {"secure": True, "ssl": ssl.create_default_context(cafile=authority)}
    crowd = Crowd(address, options)
    await crowd.start()
    living = asyncio.create_task(crowd.live())
    await crowd.settle()
    print(json.dumps({"ready": True}), flush=True)
    while command := (await asyncio.to_thread(sys.stdin.readline)).strip():
        found: dict[str, Any] = {"figures": crowd.figures}
        if command == "settle":
            found = {"settled": await crowd.settle(), "figures": crowd.figures}
        elif command == "report":
            found = {name: phase.report() for name, phase in crowd.phases.items()}
        else:
            crowd.name = command
        print(json.dumps(found), flush=True)
    living.cancel()


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
