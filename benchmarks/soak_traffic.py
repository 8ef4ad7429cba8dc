"""The client processes of the soak: the regulars, the slow readers, and those that are killed.

``soak.py`` starts this file with a role and the plan, tells it by lines of input how far it is,
and gets lines of JSON. Every message has a number, so that who reads a stream knows what is
missing; all counts are of what the program's callbacks were given, unless said otherwise.
"""

import asyncio
import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from typing import Any

import kps
import kps.sync
from kps.io_asyncio.loop import run
from soak_plan import (
    ASK,
    BULK,
    CHURN,
    HEAVY,
    KILLED,
    RELAYED,
    SLOW_READERS,
    STABLE_ON_CHURN,
    Marks,
    Plan,
    Site,
    Stream,
)

PATIENCE = 60.0
"""Seconds that any single wait may take. What takes longer has failed."""
SAMPLE_EVERY = 5.0
ASKS = 5.0  # a second, from each of two askers
ASK_TIME = 1.0
LATE = 1.5
"""How long an answer takes that comes too late; every 25th of one subscriber."""
DIRECT = 5.0  # a second, from each of two publishers
RELAYS = 1.0
REFUSALS = 1.0
PASSING = 5
"""Messages on each topic that lives only for a moment."""
SETTLE = 2.0
"""How long messages go on when those who come and go have gone, so that receipts show it."""

STATS = "__kps/stats"
FORBIDDEN = "__kps/soak"


def tell(**findings: Any) -> None:
    print(json.dumps(findings), flush=True)


async def pace(rate: float, goes_on: Callable[[], bool]) -> AsyncIterator[None]:
    """So many turns a second. What is missed is not made up for."""
    due = time.monotonic()
    while goes_on():
        yield
        now = time.monotonic()
        due = max(due + 1 / rate, now)
        await asyncio.sleep(due - now)


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"it did not happen within {PATIENCE:.0f} s that {what}")
        await asyncio.sleep(0.01)


class Reading:
    """What one subscriber had of one stream."""

    def __init__(self, marks: Marks | None = None) -> None:
        self.first = self.last = self.count = 0
        self.disordered = 0
        """Messages that did not come behind all before them: repeated, or out of order."""
        self.ended = False
        self._marks = marks

    def take(self, data: Mapping[str, Any]) -> None:
        number: int = data["n"]
        if number <= self.last:
            self.disordered += 1
            return
        self.first = self.first or number
        self.last = number
        self.count += 1
        self.ended = "end" in data
        if self._marks is not None:
            self._marks.set(number)

    def report(self) -> dict[str, int]:
        return {
            "first": self.first,
            "last": self.last,
            "count": self.count,
            "disordered": self.disordered,
        }


class Record:
    """What one client had of everything."""

    def __init__(self, plan: Plan, site: Site, name: str) -> None:
        self.plan = plan
        self.site = site
        self.name = name
        self.readings: dict[str, Reading] = {}
        self.publications = 0
        """With and without acks."""
        self.directs = 0
        self.refused = 0
        self.ends: list[int] = []
        """The close codes of connections that ended."""

    def open(self, topic: str, *, has_marks: bool) -> Reading:
        path = self.plan.marks(self.site, topic, self.name)
        reading = self.readings[topic] = Reading(Marks(path) if has_marks else None)
        return reading

    def take_direct(self, message: kps.Message) -> None:
        self.directs += 1
        if not message.wants_ack:
            name = f"direct from {message.sender}"
            self.readings.setdefault(name, Reading()).take(message.data)

    def report(self, mailbox_dropped: int) -> dict[str, Any]:
        return {
            "publications": self.publications,
            "directs": self.directs,
            "refused": self.refused,
            "ends": self.ends,
            "mailbox_dropped": mailbox_dropped,
            "readings": {topic: reading.report() for topic, reading in self.readings.items()},
        }


class Party:
    """One asyncio client that stays."""

    def __init__(self, plan: Plan, site: Site, name: str, level: int = 2, **options: Any) -> None:
        self.record = Record(plan, site, name)
        self._subscriptions: list[kps.Subscription] = []
        self._is_leaving = False
        self.client = kps.Client(
            site.address,
            id=name,
            level=level,
            request_timeout=PATIENCE,
            on_id=self._direct,
            on_error=self._refused,
            on_disconnect=self._disconnected,
            **({"reconnect": False} | options),
        )

    async def open(self) -> None:
        """Connect."""
        await self.client.__aenter__()

    async def read(self, topic: str, *, has_marks: bool = False) -> None:
        """Subscribe to a stream, and keep account of it."""
        record = self.record
        reading = record.open(topic, has_marks=has_marks)

        async def take(message: kps.Message) -> None:
            record.publications += 1
            reading.take(message.data)

        await self.subscribe(topic, take)

    async def subscribe(
        self, topic: str, callback: Callable[[kps.Message], Coroutine[None, None, Any]]
    ) -> None:
        self._subscriptions.append(await self.client.subscribe(topic, callback))

    async def flush(self) -> None:
        """Have everything that was published before; connect again first, if need be."""
        while True:
            try:
                await until(lambda: self.client.is_connected, f"{self.record.name} is connected")
                for subscription in self._subscriptions:
                    await subscription
                await self.client.flush()
            except (kps.NotConnected, kps.ConnectionLost):
                continue
            return

    async def finish(self) -> None:
        """Wait for the last message of each stream."""
        readings = self.record.readings
        for topic, reading in readings.items():
            await until(lambda: reading.ended, f"{self.record.name} has the end of {topic}")  # noqa: B023

    async def leave(self) -> None:
        self._is_leaving = True
        await self.client.close()

    def report(self) -> dict[str, Any]:
        return self.record.report(sum(s.dropped for s in self._subscriptions))

    async def _direct(self, message: kps.Message) -> Any:
        self.record.take_direct(message)
        return message.data

    async def _refused(self, error: kps.ServerError) -> None:
        self.record.refused += 1

    async def _disconnected(self, event: kps.Disconnected) -> None:
        if not self._is_leaving:
            self.record.ends.append(event.closed.code)


class Asks:
    """What became of the requests: one outcome for each subscriber that was asked."""

    STABLE = ("answers", "fails", "late")

    def __init__(self) -> None:
        self.on_topic = 0
        self.to_id = 0
        self.outcomes: Counter[str] = Counter()
        self.asked_on_topic = 0
        self.asked_leavers = 0
        self.unseen_leavers = 0
        """Outcomes of leavers that tell that they may not have got the request."""
        self.wrong: list[str] = []
        self.told_outcomes = 0
        """Outcomes in the server's own words, one by one."""
        self.told_ends = 0
        self._told: dict[str, set[str]] = {}

    async def see(self, fields: dict[str, Any], client: kps.Client) -> None:
        """Look into what the server says, before the library makes a dictionary of it."""
        action = fields.get("action")
        if action not in ("ack_update", "ack_response"):
            return
        ack_id = fields["ack_id"]
        told = self._told.setdefault(ack_id, set())
        for name in [*fields.get("responses", ()), *fields.get("missing", ())]:
            if name in told:
                self._blame(f"{ack_id}: {name} has two outcomes")
            told.add(name)
            self.told_outcomes += 1
        if action == "ack_response":
            self.told_ends += 1
            del self._told[ack_id]

    def judge(
        self, number: int, responses: Mapping[str, kps.AckResponse], *, level: int, to_id: bool
    ) -> None:
        asked = self.STABLE[:1] if to_id else self.STABLE
        for name in asked:
            if name not in responses:
                self._blame(f"request {number}: no outcome for {name}")
        for name, response in responses.items():
            kind = self._kind(response)
            self.outcomes[kind] += 1
            if name in self.STABLE:
                if not self._fits(name, kind, number, response, level):
                    self._blame(f"request {number}: {response}")
                continue
            self.asked_leavers += 1
            self.unseen_leavers += kind in ("disconnected", "timeout")
            if kind == "failed" or to_id:
                self._blame(f"request {number}: {response}")
        if to_id:
            self.to_id += 1
        else:
            self.on_topic += 1
            self.asked_on_topic += len(responses)

    def report(self) -> dict[str, Any]:
        return {
            "on_topic": self.on_topic,
            "to_id": self.to_id,
            "outcomes": self.outcomes,
            "asked_on_topic": self.asked_on_topic,
            "asked_leavers": self.asked_leavers,
            "unseen_leavers": self.unseen_leavers,
            "wrong": self.wrong,
            "told_outcomes": self.told_outcomes,
            "told_ends": self.told_ends,
            "open": len(self._told),
        }

    @staticmethod
    def _kind(response: kps.AckResponse) -> str:
        if response.success:
            return "handled"
        if response.error in ("timeout", "disconnected"):
            return response.error
        if response.error in ("unsubscribed", "no subscriber for topic"):
            return "unsubscribed"
        return "failed"

    @staticmethod
    def _fits(name: str, kind: str, number: int, response: kps.AckResponse, level: int) -> bool:
        if kind == "timeout":  # a busy machine may make anybody late
            return True
        if name == "fails":
            return response.error == f"refuses {number}"
        is_right = level == 1 or name == "late" or response.result == {"n": number}
        return kind == "handled" and is_right

    def _blame(self, what: str) -> None:
        if len(self.wrong) < 20:
            self.wrong.append(what)


class Witness:
    """What came from publishers that were killed: of each, all from the first to some last one."""

    def __init__(self) -> None:
        self.count = 0
        self.wrong: list[str] = []
        self._latest: dict[str, int] = {}

    def take(self, message: kps.Message) -> None:
        self.count += 1
        expected = self._latest.get(message.data["run"], 0) + 1
        if message.data["n"] != expected and len(self.wrong) < 20:
            self.wrong.append(f"{message.data} came in place of {expected}")
        self._latest[message.data["run"]] = message.data["n"]

    def report(self) -> dict[str, Any]:
        return {"count": self.count, "wrong": self.wrong, "runs": len(self._latest)}


class Visit:
    """A client that comes, subscribes, and leaves in one of three ways.

    Its account is what the server's messages bring, so that what still comes while it is
    unsubscribing is known too.
    """

    def __init__(self, plan: Plan, site: Site, topic: str, number: int, marks: Marks) -> None:
        self.site = site
        self.topic = topic
        self.id = f"leaver/{topic}/{number}"
        self.level = random.choice((1, 2))
        self.way = random.choice(("orderly", "close", "abort"))
        self.came = Reading(marks)
        self.handled = Reading()
        self.asks_came = 0
        self.passing = 0

    async def take_place(self) -> None:
        client = await kps.Client.connect(
            self.site.address,
            id=self.id,
            level=self.level,
            reconnect=False,
            request_timeout=PATIENCE,
            on_frame=self._see,
        )
        try:
            await client.subscribe(self.topic, self._take)
            await client.subscribe(ASK, self._answer)
            await self._pass(client)
            await until(lambda: self.handled.count >= 3, f"{self.id} has three messages")
            await asyncio.sleep(random.uniform(0.2, 2.0))
            if self.way == "orderly":
                await client.unsubscribe(self.topic)
                await client.unsubscribe(ASK)
                await client.flush()
            elif self.way == "abort":  # the way of a program that crashes: a reset
                for connection in list(client._driver.connections):
                    connection.abort()
        finally:
            await client.close()
        tell(
            left={
                "policy": self.site.policy,
                "topic": self.topic,
                "id": self.id,
                "way": self.way,
                "came": self.came.report(),
                "handled": self.handled.report(),
                "asks_came": self.asks_came,
                "passing": self.passing,
            }
        )

    async def _pass(self, client: kps.Client) -> None:
        """Have a topic of one's own for a moment."""
        topic = f"passing/{self.id}"
        subscription = await client.subscribe(topic, self._take_passing)
        for number in range(PASSING):
            await client.publish(topic, number)
        await client.flush()
        await until(lambda: self.passing == PASSING, f"{self.id} has its own messages")
        await subscription.unsubscribe()
        await client.flush()

    async def _take(self, message: kps.Message) -> None:
        self.handled.take(message.data)

    async def _take_passing(self, message: kps.Message) -> None:
        assert message.data == self.passing
        self.passing += 1

    async def _answer(self, message: kps.Message) -> None:
        pass

    async def _see(self, fields: dict[str, Any], client: kps.Client) -> None:
        action = fields.get("action")
        if action == "publish_ack":
            self.asks_came += 1
        elif action == "publish" and fields.get("topic") == self.topic:
            data = fields.get("data")
            payloads: Iterable[Any] = fields.get("batch", [data])
            if self.level == 1 and isinstance(data, dict):
                payloads = [data["data"]]
            for payload in payloads:
                self.came.take(payload)


class Regulars:
    """Everybody at one server who stays to the end."""

    def __init__(self, plan: Plan, site: Site) -> None:
        self.plan = plan
        self.site = site
        self.streams = plan.streams(site)
        self.is_relayed_to = any(other.next_address == site.address for other in plan.sites)
        self.is_publishing = self.is_churning = True
        self.sent: Counter[str] = Counter()
        self.refusals = 0
        self.witness = Witness()
        self.asks = {level: Asks() for level in (1, 2)}
        self.figures: dict[str, Any] = {}
        self.stats_count = 0
        self.round_trip = 0.0
        """The longest since the last sample, in seconds."""
        self._receipts = {
            stream.topic: Marks(plan.marks(site, stream.topic, "receipts"))
            for stream in self.streams
            if stream.has_receipts
        }
        self.parties = {
            name: Party(plan, site, name, level, **options)
            for name, level, options in (
                ("pub-2", 2, {}),
                ("pub-1", 1, {}),
                ("sub-2", 2, {}),
                ("sub-1", 1, {}),
                # It reads what makes the slow ones slow, so a busy machine may cost it something.
                ("fast", 2, {"reconnect": True}),
                ("asker-2", 2, {"on_frame": self.asks[2].see}),
                ("asker-1", 1, {"on_frame": self.asks[1].see}),
                ("answers", 2, {}),
                ("fails", 1, {}),
                ("late", 2, {}),
                ("mailman", 2, {}),
                ("witness", 2, {}),
                ("observer", 2, {}),
            )
        }
        self.publisher = kps.sync.Client(site.address, id="pub-blocking", reconnect=False)
        self.reader = kps.sync.Client(site.address, id="sub-blocking", reconnect=False)
        self.reader_record = Record(plan, site, "sub-blocking")
        self._reader_subscriptions: list[kps.sync.Subscription] = []

    # -- the beginning --------------------------------------------------------------------

    async def start(self) -> None:
        for party in self.parties.values():
            await party.open()
        observer = self.parties["observer"]
        await observer.subscribe(STATS, self._observe)
        steady = [stream.topic for stream in self.streams if stream.topic.startswith("steady/")]
        for name in ("sub-2", "sub-1"):
            for topic in [*steady, *([RELAYED] if self.is_relayed_to else [])]:
                await self.parties[name].read(topic)
        for name in STABLE_ON_CHURN:
            for topic in CHURN:
                await self.parties[name].read(topic, has_marks=True)
        await self.parties["fast"].read(HEAVY, has_marks=True)
        if self.site.drops:
            await self.parties["fast"].read(BULK)
        await self.parties["answers"].subscribe(ASK, self._answer)
        await self.parties["fails"].subscribe(ASK, self._fail)
        await self.parties["late"].subscribe(ASK, self._be_late)
        await self.parties["witness"].subscribe(KILLED, self._witness)
        await asyncio.to_thread(self._start_blocking, steady)

    def _start_blocking(self, topics: Iterable[str]) -> None:
        self.publisher.__enter__()
        self.reader.__enter__()
        for topic in topics:
            reading = self.reader_record.open(topic, has_marks=False)

            def take(message: kps.Message, reading: Reading = reading) -> None:
                self.reader_record.publications += 1
                reading.take(message.data)

            self._reader_subscriptions.append(self.reader.subscribe(topic, take))

    # -- the time between -----------------------------------------------------------------

    async def work(self) -> None:
        """Publish, ask, come and go, until told to stop."""
        async with asyncio.TaskGroup() as group:
            churning = [
                group.create_task(self._churn(topic, self._visits(topic))) for topic in CHURN
            ]
            for stream in self.streams:
                group.create_task(self._publish(stream))
            for name in ("pub-2", "pub-1"):
                group.create_task(self._send_directs(name))
            group.create_task(self._relay())
            group.create_task(self._be_refused())
            group.create_task(self._ping())
            for level, asks in self.asks.items():
                group.create_task(self._ask_all(group, level, asks))
            await asyncio.gather(*churning)
            await asyncio.sleep(SETTLE)
            self.is_publishing = False

    def stop(self) -> None:
        self.is_churning = False

    async def _publish(self, stream: Stream) -> None:
        if stream.publisher == "pub-blocking":
            await asyncio.to_thread(self._publish_blocking, stream)
            return
        async for _ in pace(stream.rate / stream.burst, self._publishes):
            for _ in range(stream.burst):
                await self._publish_one(stream)

    async def _publish_one(self, stream: Stream, **more: Any) -> None:
        number = self.sent[stream.topic] + 1
        self.sent[stream.topic] = number
        data = {"n": number, "text": "x" * stream.size, **more}
        if stream.publisher == "pub-blocking":
            await asyncio.to_thread(self.publisher.publish, stream.topic, data)
            return
        client = self.parties[stream.publisher].client
        if stream.has_receipts:
            delivered = await client.publish_with_receipt(stream.topic, data)
            assert delivered is not None
            self._receipts[stream.topic].set(number, delivered + 1)  # 0 is: no receipt
        else:
            await client.publish(stream.topic, data)

    def _publish_blocking(self, stream: Stream) -> None:
        due = time.monotonic()
        while self.is_publishing:
            self.sent[stream.topic] += 1
            data = {"n": self.sent[stream.topic], "text": "x" * stream.size}
            self.publisher.publish(stream.topic, data)
            now = time.monotonic()
            due = max(due + 1 / stream.rate, now)
            time.sleep(due - now)

    async def _send_directs(self, name: str) -> None:
        async for _ in pace(DIRECT, self._publishes):
            await self._send_direct(name)

    async def _send_direct(self, name: str, **more: Any) -> None:
        self.sent[f"direct from {name}"] += 1
        data = {"n": self.sent[f"direct from {name}"], **more}
        await self.parties[name].client.publish_to_id("mailman", data)

    async def _relay(self) -> None:
        if self.site.next_address:
            async for _ in pace(RELAYS, self._publishes):
                await self._relay_one()

    async def _relay_one(self, **more: Any) -> None:
        self.sent["to the next server"] += 1
        data = {"topic": RELAYED, "data": {"n": self.sent["to the next server"], **more}}
        await self.parties["pub-2"].client.publish_to_server(self.site.next_address, data)

    async def _be_refused(self) -> None:
        client = self.parties["pub-2"].client
        async for _ in pace(REFUSALS, self._publishes):
            try:
                await client.publish_with_receipt(FORBIDDEN, None)
            except kps.ServerError as error:
                self.refusals += error.code == "forbidden"
            for name in ("pub-2", "pub-1"):
                await self.parties[name].client.publish_to_id("nobody", None)
                self.refusals += 1

    async def _ping(self) -> None:
        observer = self.parties["observer"].client
        async for _ in pace(1.0, self._publishes):
            began = time.monotonic()
            await observer.flush()
            self.round_trip = max(self.round_trip, time.monotonic() - began)

    async def _ask_all(self, group: asyncio.TaskGroup, level: int, asks: Asks) -> None:
        number = 0
        async for _ in pace(ASKS, self._publishes):
            number += 1
            group.create_task(self._ask(level, asks, number))

    async def _ask(self, level: int, asks: Asks, number: int) -> None:
        client = self.parties[f"asker-{level}"].client
        data = {"n": number}
        to_id = number % 10 == 0
        if to_id:
            ack = await client.publish_to_id_with_ack("answers", data, ASK_TIME)
        else:
            ack = await client.publish_with_ack(ASK, data, ASK_TIME)
        asks.judge(number, await ack.wait(), level=level, to_id=to_id)

    def _visits(self, topic: str) -> Marks:
        return Marks(self.plan.marks(self.site, topic, "leavers"))

    async def _churn(self, topic: str, marks: Marks) -> None:
        number = 0
        while self.is_churning:
            number += 1
            await Visit(self.plan, self.site, topic, number, marks).take_place()

    async def _answer(self, message: kps.Message) -> Any:
        self.parties["answers"].record.publications += 1
        return message.data

    async def _fail(self, message: kps.Message) -> None:
        self.parties["fails"].record.publications += 1
        raise RuntimeError(f"refuses {message.data['n']}")

    async def _be_late(self, message: kps.Message) -> None:
        record = self.parties["late"].record
        record.publications += 1
        if record.publications % 25 == 0:
            await asyncio.sleep(LATE)

    async def _witness(self, message: kps.Message) -> None:
        self.parties["witness"].record.publications += 1
        self.witness.take(message)

    async def _observe(self, message: kps.Message) -> None:
        self.stats_count += 1
        self.figures = message.data

    def _publishes(self) -> bool:
        return self.is_publishing

    # -- the end --------------------------------------------------------------------------

    async def mark(self) -> None:
        """Publish a last message on everything, when there is room for it everywhere."""
        for party in self.parties.values():
            await party.flush()
        await asyncio.to_thread(self.reader.flush)
        for stream in self.streams:
            await self._publish_one(stream, end=True)
        for name in ("pub-2", "pub-1"):
            await self._send_direct(name, end=True)
        if self.site.next_address:
            await self._relay_one(end=True)

    async def finish(self) -> None:
        """Wait until the last messages are there."""
        for party in self.parties.values():
            await party.finish()
        readings = self.reader_record.readings.values()
        await until(lambda: all(r.ended for r in readings), "the blocking reader has all ends")

    async def books(self) -> dict[str, Any]:
        """Everything that is known here, with figures that the server made after all of it."""
        seen = self.stats_count
        await until(lambda: self.stats_count >= seen + 2, "the server publishes its figures")
        blocking = self.reader_record.report(sum(s.dropped for s in self._reader_subscriptions))
        return {
            "sent": self.sent,
            "refusals": self.refusals,
            "asks": [asks.report() for asks in self.asks.values()],
            "witness": self.witness.report(),
            "stats_count": self.stats_count,
            "figures": self.figures,
            "parties": {name: party.report() for name, party in self.parties.items()}
            | {"sub-blocking": blocking},
        }

    async def leave(self) -> None:
        for party in self.parties.values():
            await party.leave()
        await asyncio.to_thread(self.publisher.close)
        await asyncio.to_thread(self.reader.close)

    def sample(self) -> dict[str, Any]:
        names = ("published", "delivered", "dropped", "refused", "client_count")
        sample = {name: self.figures.get(name, 0) for name in names}
        sample["round_trip"], self.round_trip = self.round_trip, 0.0
        return sample


# -- the processes -----------------------------------------------------------------------


async def regulars(plan: Plan) -> None:
    """Everybody at all servers who stays to the end, and those who come and go in between."""
    logging.getLogger("kps").setLevel(logging.CRITICAL)  # of failing callbacks, which is their task
    crowd = [Regulars(plan, site) for site in plan.sites]
    for each in crowd:
        await each.start()
    tell(ready=True)
    lag = Lag()
    async with asyncio.TaskGroup() as group:
        works = [group.create_task(each.work()) for each in crowd]
        background = [group.create_task(lag.watch()), group.create_task(sample(crowd, lag))]
        async for command in commands():
            if command == "stop":
                for each in crowd:
                    each.stop()
                await asyncio.gather(*works)
            elif command == "mark":
                for each in crowd:
                    await each.mark()
                for each in crowd:
                    await each.finish()
            elif command == "books":
                for each in crowd:
                    tell(books=await each.books(), policy=each.site.policy)
            elif command == "leave":
                break
            tell(done=command)
        for task in background:
            task.cancel()
    for each in crowd:
        await each.leave()
    tell(done="leave")


class Lag:
    """How late the event loop is."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.1)
            self.longest = max(self.longest, time.monotonic() - before - 0.1)


async def sample(crowd: Iterable[Regulars], lag: Lag) -> None:
    while True:
        await asyncio.sleep(SAMPLE_EVERY)
        tell(sample={each.site.policy: each.sample() for each in crowd}, lag=lag.longest)
        lag.longest = 0.0


async def slow(plan: Plan) -> None:
    """Readers of the heavy streams. The process is stopped by a signal from time to time."""
    logging.getLogger("kps").setLevel(logging.CRITICAL)  # of connections that end, which is counted
    parties: list[Party] = []
    for site in plan.sites:
        for level, name in ((2, SLOW_READERS[0]), (1, SLOW_READERS[1])):
            party = Party(plan, site, name, level, reconnect=True)
            await party.open()
            await party.read(HEAVY, has_marks=True)
            if site.drops:
                await party.read(BULK)
            parties.append(party)
    tell(ready=True)
    async for command in commands():
        if command == "flush":
            for party in parties:
                await party.flush()
        elif command == "finish":
            for party in parties:
                await party.finish()
        elif command == "books":
            for party in parties:
                record = party.record
                tell(books=party.report(), policy=record.site.policy, name=record.name)
        elif command == "leave":
            for party in parties:
                await party.leave()
            tell(done="leave")
            return
        tell(done=command)


async def victim(plan: Plan) -> None:
    """Readers and publishers that never leave: the process is killed."""
    parties: list[Party] = []
    for number, site in enumerate(plan.sites):
        party = Party(plan, site, "victim", 1 + number % 2)
        await party.open()
        for topic in victim_topics(site):
            await party.read(topic, has_marks=True)
        for topic, reading in party.record.readings.items():
            await until(lambda: reading.count >= 3, f"the victim has three messages of {topic}")  # noqa: B023
        parties.append(party)
    tell(ready=True)
    run = f"{os.getpid()} {time.time_ns()}"  # the system gives a number again
    number = 0
    async for _ in pace(5, lambda: True):
        for _ in range(10):
            number += 1
            for party in parties:
                await party.client.publish(KILLED, {"run": run, "n": number})


def victim_topics(site: Site) -> list[str]:
    """What a victim reads: not what slow readers read, where those lose messages."""
    return [CHURN[0]] if site.drops else [CHURN[0], HEAVY]


async def commands() -> AsyncIterator[str]:
    """The lines of input; at their end, whoever started this has gone."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line.strip())
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield await lines.get()


ROLES: dict[str, Callable[[Plan], Coroutine[None, None, None]]] = {
    "regulars": regulars,
    "slow": slow,
    "victim": victim,
}


def main() -> None:
    role, plan = sys.argv[1], Plan.from_json(sys.argv[2])
    signal.alarm(plan.life)
    run(ROLES[role](plan))
    sys.stdout.flush()
    os._exit(0)  # the thread that reads the input would not end


if __name__ == "__main__":
    main()
