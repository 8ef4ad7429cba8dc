"""Three sensors that report ten times a second, for sensors.html to plot.

    python examples/sensors.py

Argument: optionally the address of the server.
"""

import asyncio
import math
import sys
import time

import kps


async def main(address: str = "localhost:9313") -> None:
    async with kps.Client(address, id="sensors") as client:
        while True:
            now = time.time()
            for number, name in enumerate(("kitchen", "cellar", "roof")):
                celsius = 20 - 4 * number + 2 * math.sin(now / 5 + number)
                reading = {"sensor": name, "celsius": round(celsius, 2), "time": now}
                await client.publish("readings", reading)
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
