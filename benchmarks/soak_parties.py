"""The clients of ``soak_features.py`` that stay: readers, clerks, callers and workers."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

import kps
from soak_accounts import (
    GROUP,
    JOBS,
    KEPT,
    ONCE,
    REFUSES,
    RESENT,
    Account,
    Complaints,
    Losses,
    Outcomes,
    Tally,
    headers_of,
)
from soak_plan import Marks, Plan, Site
from soak_traffic import PATIENCE, Party, pace, until

Scope = str | kps.Pattern
GoesOn = Callable[[], bool]

BREAK_AFTER = (1.5, 5.0)
"""Seconds between two breaks of a connection."""
SOON = kps.Backoff(first=0.05, longest=0.2)
"""The waits do not grow, although the connection often breaks."""
BURST = 4
"""Calls of each kind that begin just before it does."""
JOBS_RATE = 7.0  # a second, from each caller
DIRECT_RATE = 5.0


def break_off(client: kps.Client) -> None:
    """End the connection as a network does that fails: with a reset."""
    for connection in list(client._driver.connections):
        connection.abort()


class Stayer(Party):
    """A client that stays, also over connections that break."""

    def __init__(self, plan: Plan, site: Site, name: str, level: int = 2, **options: Any) -> None:
        super().__init__(plan, site, name, level, **({"reconnect": SOON} | options))

    async def listen(
        self,
        scope: Scope,
        callback: Callable[[kps.Message], Coroutine[None, None, Any]],
        **options: Any,
    ) -> None:
        self._subscriptions.append(await self.client.subscribe(scope, callback, **options))

    async def break_often(self, goes_on: GoesOn) -> None:
        """Break the connection again and again."""
        while True:
            await asyncio.sleep(random.uniform(*BREAK_AFTER))
            if not goes_on():
                return
            break_off(self.client)


class Reader(Stayer):
    """Reads streams by topics and patterns: each number once, however many of these have it."""

    def __init__(
        self,
        plan: Plan,
        site: Site,
        name: str,
        scopes: tuple[Scope, ...],
        topics: Iterable[str],
        complaints: Complaints,
        level: int = 2,
        **options: Any,
    ) -> None:
        self.losses = losses = Losses(name, complaints)
        options["on_recovered"], options["on_lost"] = losses.note_recovered, losses.note_lost
        super().__init__(plan, site, name, level, **options)
        self.accounts = {
            (scope, topic): Account(f"{name}, {topic} by {scope}", level, complaints)
            for scope in scopes
            for topic in topics
            if (scope == topic if isinstance(scope, str) else scope.matches(topic))
        }
        self._scopes = scopes
        self._complaints = complaints

    async def join(self) -> None:
        for scope in self._scopes:
            await self.listen(scope, self._taker(scope))

    def _taker(self, scope: Scope) -> Callable[[kps.Message], Coroutine[None, None, None]]:
        async def take(message: kps.Message) -> None:
            self.accounts[scope, message.topic].take(message)

        return take

    async def break_often(self, goes_on: GoesOn) -> None:
        # What is lost before a topic is known at all, nobody can tell.
        accounts = self.accounts.values()
        await until(lambda: all(one.count for one in accounts), f"{self.record.name} has begun")
        await super().break_often(goes_on)

    @property
    def has_ended(self) -> bool:
        """Whether it has the last message of each stream."""
        return all(account.has_ended for account in self.accounts.values())

    def judge(self, sent: Counter[str]) -> None:
        name, told, expect = self.record.name, self.losses.told, self._complaints.expect
        missing: dict[str, int] = {}
        for (scope, topic), account in self.accounts.items():
            expect(f"{name}, last number on {topic} by {scope}", account.last, sent[topic])
            by_another = missing.setdefault(topic, account.missing)
            expect(f"{name}, missing on {topic} by {scope}", account.missing, by_another)
        if all(isinstance(scope, str) for scope in self._scopes):
            lost = {topic: count for topic, count in missing.items() if count}
            expect(f"{name}, missing, beside what was told as lost", lost, +told)
        total = sum(missing.values())
        expect(f"{name}, missing in all, beside what was told as lost", total, told.total())
        if all(topic.startswith(KEPT) for topic in missing):
            expect(f"{name}, lost although it was kept", told.total(), 0)
        expect(f"{name}, dropped by the client", self.report()["mailbox_dropped"], 0)


class Framed(Reader):
    """Counts also what the server sends: the library drops what comes twice."""

    def __init__(self, *arguments: Any) -> None:
        self.came: Counter[str] = Counter()
        super().__init__(*arguments, on_frame=self._see)

    async def _see(self, fields: dict[str, Any], client: kps.Client) -> None:
        if fields.get("action") == "publish":
            self.came[fields["topic"]] += len(fields.get("batch", [None]))

    def judge(self, sent: Counter[str]) -> None:
        super().judge(sent)
        expected = {topic: sent[topic] for _, topic in self.accounts}
        self._complaints.expect(f"{self.record.name}, sent by the server", self.came, expected)


class Clerk(Stayer):
    """Reads the jobs of each publisher, and answers."""

    def __init__(
        self,
        plan: Plan,
        site: Site,
        name: str,
        complaints: Complaints,
        level: int = 2,
        **options: Any,
    ) -> None:
        super().__init__(plan, site, name, level, **options)
        self.accounts: dict[tuple[str, str], Account] = {}
        self._level = level
        self._complaints = complaints

    async def join(self, scope: Scope, **options: Any) -> None:
        async def take(message: kps.Message) -> int:
            return self._take(str(scope), message)

        await self.listen(scope, take, **options)

    def judge(self, sent: Counter[str]) -> None:
        """Expect every number from each publisher."""
        name = self.record.name
        for (by, sender), account in self.accounts.items():
            what = f"{name}, from {sender} by {by}"
            self._complaints.expect(f"{what}, missing", account.missing, 0)
            kind = "directs" if by == _ITS_ID else "jobs"
            self._complaints.expect(f"{what}, last", account.last, sent[f"{kind} of {sender}"])

    def _take(self, by: str, message: kps.Message) -> int:
        account = self.accounts.get((by, message.sender))
        if account is None:
            name = f"{self.record.name}, from {message.sender} by {by}"
            account = Account(name, self._level, self._complaints)
            self.accounts[by, message.sender] = account
        account.take(message)
        number: int = message.data["n"]
        return number

    async def _direct(self, message: kps.Message) -> int:
        return self._take(_ITS_ID, message)


_ITS_ID = "its id"


class TurnTaker(Clerk):
    """Takes messages without acks in turn with others."""

    def __init__(
        self, plan: Plan, site: Site, name: str, tally: Tally, complaints: Complaints
    ) -> None:
        super().__init__(plan, site, name, complaints)
        self.count = 0
        self._tally = tally

    def _take(self, by: str, message: kps.Message) -> int:
        number = super()._take(by, message)
        self._tally.add(number)
        self.count += 1
        return number


class Caller(Stayer):
    """Asks for jobs, directly too, and for receipts, while its connection breaks: none is lost.

    Its messages have ids, unless its connection lasts.
    """

    def __init__(
        self,
        plan: Plan,
        site: Site,
        name: str,
        sent: Counter[str],
        outcomes: Outcomes,
        complaints: Complaints,
        *,
        breaks: bool,
    ) -> None:
        super().__init__(plan, site, name)
        self.calls = 0
        """Those that were begun with an id."""
        self.again = 0
        """How often calls were under way when the connection broke, and were made again."""
        self._sent = sent
        self._outcomes = outcomes
        self._complaints = complaints
        self._breaks = breaks
        self._under_way = 0
        self._told = Marks(plan.marks(site, JOBS, "told"))

    async def work(self, receipts: float, goes_on: GoesOn) -> None:
        async with asyncio.TaskGroup() as group:

            async def repeat(rate: float, call: Callable[[], Awaitable[None]]) -> None:
                async for _ in pace(rate, goes_on):
                    group.create_task(self._call(call))

            group.create_task(repeat(JOBS_RATE, self.ask))
            if self._breaks:
                group.create_task(repeat(DIRECT_RATE, self.ask_directly))
                group.create_task(repeat(receipts, self.publish_once))
                while goes_on():
                    await asyncio.sleep(random.uniform(*BREAK_AFTER))
                    for call in (self.ask, self.ask_directly, self.publish_once) * BURST:
                        group.create_task(self._call(call))
                    # Some have been handled then, some are on their way, and some in the client.
                    await asyncio.sleep(random.choice((0, 0.0005, 0.001, 0.002, 0.005)))
                    break_off(self.client)

    async def _call(self, call: Callable[[], Awaitable[None]]) -> None:
        if not self.client.is_connected:
            return
        self.calls += self._breaks
        self._under_way += 1
        try:
            await call()
        except kps.KPSError as error:
            self._complaints.add(f"{self.record.name}: a call ends with {error!r}")
        finally:
            self._under_way -= 1

    async def ask(self) -> None:
        job, number = self._next("jobs"), self._next(f"jobs of {self.record.name}")
        ack = await self.client.publish_with_ack(
            JOBS,
            data := {"n": number, "job": job},
            PATIENCE,
            key=f"customer-{job % 7}" if job % 3 == 0 else "",
            retry=1,
            headers=headers_of(JOBS, data),
            message_id=f"job {job}" if self._breaks else "",
        )
        self._told.set(job, self._outcomes.judge(job, number, ack, await ack.wait()))

    async def ask_directly(self) -> None:
        number = self._next(f"directs of {self.record.name}")
        ack = await self.client.publish_to_id_with_ack(
            "clerk-2",
            data := {"n": number},
            PATIENCE,
            headers=headers_of("", data),
            message_id=f"direct {number}",
        )
        told = [(one.client_id, one.success, one.result) for one in (await ack.wait()).values()]
        self._complaints.expect(f"direct {number}", told, [("clerk-2", True, number)])

    async def publish_once(self, **more: Any) -> None:
        number = self._next(ONCE)
        await self.client.publish_with_receipt(
            ONCE, {"n": number, **more}, message_id=f"once {number}"
        )

    def _next(self, what: str) -> int:
        self._sent[what] += 1
        return self._sent[what]

    async def _disconnected(self, event: kps.Disconnected) -> None:
        if not self._is_leaving:
            self.record.ends.append(event.closed.code)
            self.again += self._under_way


class Resender(Stayer):
    """Publishes each number once, although it sends again after its own end what it had not noted.

    It takes its time to note what the server has confirmed.
    """

    def __init__(self, plan: Plan, site: Site) -> None:
        super().__init__(plan, site, "resender")
        self._noted = Tally(plan.marks(site, RESENT, "noted"))

    async def work(self) -> None:
        while True:
            await until(lambda: self.client.is_connected, "the resender is connected")
            with suppress(kps.NotConnected):  # the connection has broken just now
                await self._publish(BURST)

    async def end(self) -> int:
        """Publish for the last time, in place of the process that was killed; return the number."""
        await self.open()
        await self._publish(BURST)  # of which it may have published some: they are no end
        last = await self._publish(1, end=True)
        await self.leave()
        return last

    async def _publish(self, count: int, **more: Any) -> int:
        """Publish the next ones behind the last that is noted; return the last number."""
        first = self._noted.last + 1
        calls = [
            self.client.publish_with_receipt(
                RESENT, {"n": number, **more}, message_id=f"resent {number}"
            )
            for number in range(first, first + count)
        ]
        await asyncio.gather(*calls)
        await asyncio.sleep(random.uniform(0.0, 0.3))
        for number in range(first, first + count):
            self._noted.add(number)
        return self._noted.last


class Worker(Stayer):
    """A member of a group. It notes each job before it begins with it."""

    def __init__(
        self,
        plan: Plan,
        site: Site,
        name: str,
        tally: Tally,
        seconds: tuple[float, float] = (0.0, 0.01),
        *,
        scope: Scope = JOBS,
        group: str = GROUP,
        concurrency: int = 1,
        fails_every: int = 0,
    ) -> None:
        super().__init__(plan, site, name)
        self._tally = tally
        self._seconds = seconds
        self._scope = scope
        self._options: dict[str, Any] = {"group": group, "concurrency": concurrency}
        self._fails_every = fails_every
        self._begun = 0
        self.refused = 0

    async def join(self) -> None:
        await self.client.subscribe(self._scope, self._execute, **self._options)

    async def come_and_go(self, goes_on: GoesOn) -> None:
        """Leave the group in an orderly way again and again. What it has not begun, others get."""
        while goes_on():
            await asyncio.sleep(random.uniform(*BREAK_AFTER))
            await self.client.unsubscribe(self._scope)
            await asyncio.sleep(random.uniform(0.0, 0.5))
            await self.client.subscribe(self._scope, self._execute, **self._options)

    async def _execute(self, message: kps.Message) -> int:
        job = note(message, self._tally)
        self._begun += 1
        if self._fails_every and self._begun % self._fails_every == 0 and message.attempt == 1:
            self.refused += 1
            raise RuntimeError(f"{REFUSES} {job}")
        await asyncio.sleep(random.uniform(*self._seconds))
        return job


def note(message: kps.Message, tally: Tally) -> int:
    """Note that a job begins, and look at its headers."""
    job: int = message.data["job"]
    tally.add(job, message.attempt)
    if message.headers != headers_of(JOBS, message.data):
        raise RuntimeError(f"its headers are {message.headers}")
    return job
