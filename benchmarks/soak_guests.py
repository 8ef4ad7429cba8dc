"""Guests of the soak, who come to topics and go, and who observes that."""

import random
import time
from contextlib import suppress

import kps
from soak_accounts import JOBS, ROOM, Complaints, Roster
from soak_parties import SOON, Clerk, break_off
from soak_plan import Plan, Site
from soak_traffic import until

GRACE = 3.0
"""Seconds for which a member of a topic may be away."""
TURN = 0.5
"""Seconds by which the clock of the server's event loop may be late: it moves between two turns."""


class Observer(Clerk):
    """Sees who is subscribed to the topics where guests come and go."""

    def __init__(self, plan: Plan, site: Site, name: str, complaints: Complaints) -> None:
        super().__init__(plan, site, name, complaints)
        topics = (ROOM, JOBS)
        self.rosters = {topic: Roster(f"{name}, {topic}", complaints) for topic in topics}

    async def observe(self) -> None:
        for topic, roster in self.rosters.items():
            await self.join(topic, presence=roster.take)


class Guest(Clerk):
    """Comes to a topic, and leaves it in one of several ways, of which an observer must hear."""

    WAYS = ("unsubscribed", "closed", "lost", "replaced")

    def __init__(
        self,
        plan: Plan,
        site: Site,
        name: str,
        topic: str,
        roster: Roster,
        complaints: Complaints,
    ) -> None:
        self.way = random.choice(self.WAYS)
        self.is_away_once = self.way in self.WAYS[:2] and random.random() < 0.5
        level, reconnect = random.choice((1, 2)), SOON if self.is_away_once else False
        super().__init__(plan, site, name, complaints, level, reconnect=reconnect)
        self._topic = topic
        self._roster = roster
        self._told = roster.ways[name] = []
        self._expected: list[str] = []
        self._others: list[kps.Client] = []

    async def visit(self) -> None:
        name = self.record.name
        await self.open()
        info = {"guest": name} if self._level == 2 else None
        await self.join(self._topic, info=info)
        await self._expect("joined")
        if info is not None and random.random() < 0.5:
            await self.client.subscribe(self._topic, _pass, info=info | {"again": True})
            await self._expect("updated")
        if self.is_away_once:
            await self._be_away()
        await self._go()
        for client in (self.client, *self._others):
            await client.close()
        del self._roster.ways[name]

    async def _be_away(self) -> None:
        """Come back in time, so that nobody is told that it was away."""
        began = time.monotonic()
        break_off(self.client)
        await until(lambda: bool(self.record.ends), f"{self.record.name} is disconnected")
        await self.flush()
        if time.monotonic() - began >= GRACE:  # the machine was too busy
            await self._expect("lost", "joined")

    async def _go(self) -> None:
        began, client = time.monotonic(), self.client
        if self.way == "unsubscribed":
            await client.unsubscribe(self._topic)
        elif self.way == "closed":
            await client.close()
        elif self.way == "lost":
            break_off(client)
        else:  # by one who does not subscribe
            self._others.append(await kps.Client.connect(self.record.site.address, id=client.id))
        await self._expect(self.way)
        waited = time.monotonic() - began
        if self.way in self.WAYS[2:] and waited < GRACE - TURN:
            self._complaints.add(f"{client.id}: {self.way} after {waited:.3f} s")

    async def _expect(self, *events: str) -> None:
        """Wait until the observer was told so, and of nothing else."""
        self._expected += events
        with suppress(RuntimeError):  # it was told less
            await until(lambda: len(self._told) >= len(self._expected), "all is told")
        self._complaints.expect(f"{self.record.name}, as told", self._told, self._expected)


async def _pass(message: kps.Message) -> None:
    pass
