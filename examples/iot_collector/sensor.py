"""A sensor, simulated: it measures also without a connection, and loses nothing."""

import asyncio
import itertools
import math
import random
import time
from collections import deque
from typing import TypedDict

import kps

EVERY = 0.5  # seconds between two readings
WITHOUT_POWER = 8.0  # seconds


class Reading(TypedDict):
    """What a sensor measures: when (Unix time), which one since its start, and what."""

    time: float
    number: int
    celsius: float


class Sensor:
    """Measures about ``usual`` °C, and keeps each reading until it is stored."""

    def __init__(self, name: str, usual: float) -> None:
        self._name, self._usual = name, usual
        self._heat = 0.0
        self._has_power = True
        self._waiting = deque[Reading]()  # a real sensor has a bound here, or a disk

    async def measure(self) -> None:
        """Measure again and again."""
        for number in itertools.count(1):
            celsius = random.gauss(self._usual + math.sin(number / 15) + self._heat, 0.2)
            reading = Reading(time=time.time(), number=number, celsius=round(celsius, 1))
            self._waiting.append(reading)
            await asyncio.sleep(EVERY)

    async def deliver(self, address: str, token: str) -> None:
        """Send the readings in order, each until the collector has it."""
        while True:
            async with kps.Client(address, id=self._name, token=token, on_id=self._obey) as client:
                # Who is subscribed here is there, as far as the dashboards can see.
                await client.subscribe("sensors", lambda message: None)
                while self._has_power:
                    if self._waiting and await self._is_stored(client, self._waiting[0]):
                        self._waiting.popleft()
                    else:
                        await asyncio.sleep(0.1)
            await asyncio.sleep(WITHOUT_POWER)
            self._has_power = True

    async def _is_stored(self, client: kps.Client, reading: Reading) -> bool:
        try:
            await client.request(f"readings/{self._name}", reading)
        except kps.KPSError:
            return False  # no collector, or no connection, or it is unknown: send it again
        return True

    async def _obey(self, message: kps.Message[str]) -> None:
        """Do what a dashboard wants of this sensor. It is told of an error that this raises."""
        match message.data:
            case "heat":
                self._heat = 15.0 - self._heat  # and the next time it is cool again
            case "unplug":
                self._has_power = False
            case other:
                raise kps.Refused(f"a sensor cannot {other}")
