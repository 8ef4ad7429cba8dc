"""Sensors that report through bad connections, and a collector that runs within the server.

    python examples/iot_collector.py

The sensors keep their readings while they are offline (``offline_queue``). Each has topics of its
own; the collector takes the temperatures of all by a pattern. It is a subscriber in the server's
own process, so a reading takes no way back over the network.
Argument: optionally the address to listen on.
"""

import asyncio
import random
import sys
from collections import defaultdict

import kps

SENSORS = 5
READINGS = 20


async def sensor(address: str, name: str) -> None:
    """Measure, and report each reading."""
    async with kps.Client(address, id=name, offline_queue=1000) as client:
        for number in range(READINGS):
            celsius = round(random.gauss(20, 2), 1)
            reading = {"number": number, "celsius": celsius}
            await client.publish(f"sensors/{name}/temperature", reading)
            await client.publish(f"sensors/{name}/battery", 1 - number / 1000)
        await client.flush()


async def main(address: str = "localhost:9313") -> None:
    readings: dict[str, list[float]] = defaultdict(list)

    complete = asyncio.Event()

    async def collect(message: kps.Message) -> None:
        name = message.topic.split("/")[1]
        readings[name].append(message.data["celsius"])
        if sum(map(len, readings.values())) == SENSORS * READINGS:
            complete.set()

    async with kps.Server(address) as server:
        await server.subscribe(kps.Pattern("sensors/*/temperature"), collect)
        await asyncio.gather(*(sensor(server.address, f"sensor-{n}") for n in range(SENSORS)))
        await complete.wait()
        for name, values in sorted(readings.items()):
            print(f"{name}: {len(values)} readings, {sum(values) / len(values):.1f} °C on average")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
