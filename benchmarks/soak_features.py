"""Patterns, history, presence, groups, headers and message ids in the soak.

``soak.py`` starts this file with a role and the plan, as it starts ``soak_traffic.py``. The role
``features`` is everybody at a server of their own who stays, with guests who come and go; their
connections break meanwhile. ``workers`` are members of a group, and a reader and a publisher that
go on where they were: their process is killed again and again. The clients are in
``soak_parties.py``, and what they must have had in ``soak_accounts.py``.
"""

import asyncio
import logging
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import kps
import kps.sync
from kps.io_asyncio.loop import run
from soak_accounts import (
    AUDITED,
    AUDITORS,
    GROUP,
    HEADED,
    JOBS,
    KEPT,
    MOST_ATTEMPTS,
    ONCE,
    RESENT,
    ROOM,
    SHORT,
    TURNS,
    Complaints,
    Outcomes,
    Tally,
    headers_of,
    judge_jobs,
    judge_once,
)
from soak_guests import GRACE, Guest, Observer
from soak_parties import (
    SOON,
    Caller,
    Clerk,
    Framed,
    Reader,
    Resender,
    Stayer,
    TurnTaker,
    Worker,
    note,
)
from soak_plan import Plan, Site, Stream
from soak_traffic import PATIENCE, STATS, commands, pace, tell, until

REMEMBERED = 60
"""Seconds for which the server keeps messages, and the outcomes of those with ids."""
SERVER_OPTIONS = (
    *("--history", f"{KEPT}**=100000,{REMEMBERED}"),
    *("--history", f"{SHORT}**=20,{REMEMBERED}"),
    *("--message-id-window", f"{REMEMBERED}"),
    *("--presence-grace", f"{GRACE}"),
    *("--max-attempts", f"{MOST_ATTEMPTS}"),
)
SOME_TIME = kps.Backoff(first=3.0, factor=1.0, longest=3.0, jitter=1.0)
"""Some of these absences are longer than the short history."""
PLACES = f"{KEPT}single"
"""What the program reads that keeps its place."""
GUESTS = 2
"""At a time, on each topic that has some."""
STABLE = ("clerk-2", "clerk-1", "observer")
"""Who reads the jobs besides the groups."""


def streams(rate: float) -> list[Stream]:
    """What is published all the time over connections that last."""
    return [
        Stream(PLACES, 0.25 * rate),
        Stream(f"{KEPT}batched", 0.3 * rate, burst=10),
        Stream(f"{KEPT}level-1", 0.05 * rate, publisher="pub-1"),
        Stream(HEADED, 0.1 * rate),
        Stream(f"{SHORT}single", 0.2 * rate),
        Stream(f"{SHORT}batched", 0.2 * rate, burst=5),
        Stream(TURNS, 0.1 * rate, burst=2),
    ]


class Features:
    """Everybody who stays, and their guests."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.site = site = plan.sites[0]
        self.goes_on = True
        self.complaints = complaints = Complaints()
        self.outcomes = Outcomes(complaints, STABLE)
        self.sent: Counter[str] = Counter()
        self.figures: dict[str, Any] = {}
        self.guests = self.stats_count = self.compared = 0
        self.streams = streams(plan.rate)
        topics = [ONCE, RESENT, *(stream.topic for stream in self.streams)]
        kept = tuple(topic for topic in topics if topic.startswith(KEPT))
        short = tuple(topic for topic in topics if topic.startswith(SHORT))
        all_kept, all_short = kps.Pattern(f"{KEPT}**"), kps.Pattern(f"{SHORT}**")

        def reader(name: str, *scopes: str | kps.Pattern, **options: Any) -> Reader:
            return Reader(plan, site, name, scopes, topics, complaints, **options)

        several = (all_kept, kps.Pattern(f"{KEPT}*"), *kept[:2])
        self.readers: list[Reader] = [
            Framed(plan, site, "pattern", several, topics, complaints),
            reader("plain-2", *kept),
            reader("plain-1", *kept, level=1),
        ]
        self.followers = [
            reader("kept-plain", *kept),
            reader("kept-pattern", all_kept),
            reader("kept-both", all_kept, *kept[:2]),
            reader("short-plain", *short, reconnect=SOME_TIME),
            reader("short-pattern", all_short, reconnect=SOME_TIME),
            reader("short-both", all_short, short[0], reconnect=SOME_TIME),
        ]
        self.publishers = {
            name: Stayer(plan, site, name, level) for name, level in (("pub-2", 2), ("pub-1", 1))
        }
        self.callers = [
            Caller(plan, site, name, self.sent, self.outcomes, complaints, breaks=breaks)
            for name, breaks in (("caller", True), ("lasting-caller", False))
        ]
        self.clerks = [
            Clerk(plan, site, "clerk-2", complaints),
            Clerk(plan, site, "clerk-1", complaints, level=1),
        ]
        self.observers = [
            Observer(plan, site, name, complaints) for name in ("observer", "breaking-observer")
        ]
        tally = Tally(plan.marks(site, JOBS, "by-members"))
        audits = Tally(plan.marks(site, JOBS, AUDITORS))
        self.leaver = Worker(plan, site, "leaver", tally, (0.05, 0.3), concurrency=3)
        self.failing = Worker(plan, site, "failing", tally, fails_every=7)
        self.workers = [
            Worker(plan, site, "fast", tally, concurrency=2),
            Worker(plan, site, "slow", tally, (0.1, 0.6)),
            Worker(plan, site, "auditor", audits, scope=AUDITED, group=AUDITORS),
            self.failing,
            self.leaver,
        ]
        turns = Tally(plan.marks(site, TURNS, GROUP))
        self.turn_takers = [
            TurnTaker(plan, site, f"turn-{number}", turns, complaints) for number in range(3)
        ]
        self.stats = Stayer(plan, site, "stats")
        self.breaking: list[Stayer] = [*self.followers, self.observers[1], self.callers[0]]
        """Those whose connections are broken, the last one by itself."""
        self.stayers: list[Stayer] = [
            *(*self.readers, *self.followers, *self.publishers.values(), *self.callers),
            *(*self.clerks, *self.observers, *self.workers, *self.turn_takers, self.stats),
        ]

    async def start(self) -> None:
        for one in self.stayers:
            await one.open()
        for reader in (*self.readers, *self.followers):
            await reader.join()
        for clerk in self.clerks:
            await clerk.join(JOBS)
        await self.clerks[0].join(AUDITED)
        for observer in self.observers:
            await observer.observe()
        for worker in self.workers:
            await worker.join()
        for taker in self.turn_takers:
            await taker.join(TURNS, group=GROUP)
        await self.stats.listen(STATS, self._note_figures)

    async def work(self) -> None:
        """Do everything until told to stop, and come to its end."""
        async with asyncio.TaskGroup() as group:
            for stream in self.streams:
                group.create_task(self._publish(stream))
            for caller in self.callers:
                group.create_task(caller.work(0.1 * self.plan.rate, self._goes_on))
            for one in self.breaking[:-1]:
                group.create_task(one.break_often(self._goes_on))
            group.create_task(self.leaver.come_and_go(self._goes_on))
            for topic in (ROOM, JOBS) * GUESTS:
                group.create_task(self._have_guests(topic))
            group.create_task(self._compare_often())

    def _goes_on(self) -> bool:
        return self.goes_on

    async def _publish(self, stream: Stream) -> None:
        async for _ in pace(stream.rate / stream.burst, self._goes_on):
            for _ in range(stream.burst):
                await self._publish_one(stream)

    async def _publish_one(self, stream: Stream, **more: Any) -> None:
        topic = stream.topic
        self.sent[topic] += 1
        data = {"n": self.sent[topic], "text": "x" * stream.size, **more}
        client = self.publishers[stream.publisher].client
        await client.publish(topic, data, headers=headers_of(topic, data) or None)

    async def _have_guests(self, topic: str) -> None:
        roster = self.observers[0].rosters[topic]
        while self.goes_on:
            self.guests += 1
            name = f"guest/{self.guests}"
            await Guest(self.plan, self.site, name, topic, roster, self.complaints).visit()

    async def _compare_often(self) -> None:
        async for _ in pace(0.5, self._goes_on):
            await self._compare_all()

    async def _compare_all(self) -> None:
        for observer in self.observers:
            for topic in observer.rosters:
                await self._compare(observer, topic)

    async def _compare(self, observer: Observer, topic: str) -> None:
        """Ask who is there until an observer has been told of just that version."""
        roster, deadline = observer.rosters[topic], time.monotonic() + PATIENCE
        name = f"{observer.record.name}, {topic}"
        while time.monotonic() < deadline:
            asked = await self.publishers["pub-2"].client.presence(topic)
            await asyncio.sleep(0.15)  # longer than changes are gathered
            if asked.version == roster.version:
                self.complaints.expect(f"{name}, beside an answer", roster.members, asked.members)
                self.compared += 1
                return
        self.complaints.add(f"{name}: it was not told of any version that others were")

    async def _note_figures(self, message: kps.Message) -> None:
        self.stats_count += 1
        self.figures = message.data

    # -- the end --------------------------------------------------------------------------

    async def mark(self) -> None:
        """Publish a last message on everything, and wait until it is everywhere."""
        for one in self.stayers:
            await one.flush()
        for stream in self.streams:
            await self._publish_one(stream, end=True)
        await self.callers[0].publish_once(end=True)
        self.sent[RESENT] = await Resender(self.plan, self.site).end()
        with suppress(RuntimeError):  # then the books tell what is missing
            await until(self._has_come, "all has come")
        await self._compare_all()

    def _has_come(self) -> bool:
        taken = sum(taker.count for taker in self.turn_takers)
        everybody = (*self.readers, *self.followers)
        return taken >= self.sent[TURNS] and all(reader.has_ended for reader in everybody)

    async def books(self) -> dict[str, int]:
        """Judge everything, and return sums."""
        seen = self.stats_count
        await until(lambda: self.stats_count >= seen + 2, "the server publishes its figures")
        for reader in (*self.readers, *self.followers):
            reader.judge(self.sent)
        for clerk in (*self.clerks, self.observers[0]):
            clerk.judge(self.sent)
        published = self._check_server()
        plan, site, sent, complaints = self.plan, self.site, self.sent, self.complaints
        jobs = sent["jobs"]
        executions = judge_jobs(plan, site, jobs, complaints)
        outcomes = self.outcomes.counts
        complaints.expect("refusals as told", outcomes["refused"], self.failing.refused)
        turns = judge_once(plan.marks(site, TURNS, GROUP), "turns", sent[TURNS], complaints)
        complaints.expect("turns", turns, sent[TURNS])
        places = plan.marks(site, PLACES, "places")
        read_by_killed = judge_once(places, "a killed reader", Tally(places).last, complaints)
        losses = [one.losses for one in self.followers]
        accounts = [
            item for one in (*self.readers, *self.followers) for item in one.accounts.items()
        ]
        events = sum((o.rosters[t].events for o in self.observers for t in o.rosters), Counter())
        return {
            "published": published,
            "read by topic": sum(a.count for (by, _), a in accounts if isinstance(by, str)),
            "read by pattern": sum(a.count for (by, _), a in accounts if not isinstance(by, str)),
            "taken in turn by a group": turns,
            "connections broken, of those who stay": sum(len(o.record.ends) for o in self.breaking),
            "topics and patterns resumed": sum(one.resumes for one in losses),
            "replayed, where nothing was lost": sum(one.recovered for one in losses),
            "lost, each of them told": sum(one.told.total() for one in losses),
            "read by a program that was killed, each once": read_by_killed,
            "published by a program that was killed, each once": sent[RESENT],
            "jobs": jobs,
            **executions,
            "attempts that failed, as they should": outcomes["refused"],
            "attempts whose member was gone": outcomes["lost with their member"],
            "calls with a message id": self.callers[0].calls,
            "of them made again by the client": self.callers[0].again,
            "guests": self.guests,
            "messages about members": events["told"],
            **{f"members that {what}": events[what] for what in ("joined", "updated")},
            **{f"left: {why}": events[why] for why in (*Guest.WAYS, "unknown")},
            "members compared with an answer": self.compared,
        }

    def _check_server(self) -> int:
        """Look at the server's own figures; return how many messages were published."""
        figures, expect, sent = self.figures, self.complaints.expect, self.sent
        topics = (ONCE, RESENT, *(stream.topic for stream in self.streams))
        published = sum(sent[topic] for topic in topics) + sent["jobs"]
        found = figures["published"] - (self.stats_count - 1)  # they do not count themselves
        expect("published, by the server's figures", found, published)
        expect("refused", figures["refused"], 0)
        expect("ack requests under way", figures["pending_acks"], 0)
        clients = {client["id"]: client for client in figures["clients"]}
        expect("clients", sorted(clients), sorted(one.record.name for one in self.stayers))
        for reader in self.readers:
            name = reader.record.name
            delivered = sum(sent[topic] for topic in {topic for _, topic in reader.accounts})
            expect(f"{name}, delivered", clients[name]["delivered"], delivered)
        for stayer in self.stayers:
            name, record = stayer.record.name, stayer.record
            expect(f"{name}, errors", record.refused, 0)
            if stayer not in self.breaking:
                expect(f"{name}, connections that ended", record.ends, [])
        for observer in self.observers:
            names = sorted(one.record.name for one in self.observers)
            expect(
                f"{observer.record.name}, in the end", sorted(observer.rosters[ROOM].members), names
            )
        return published

    async def leave(self) -> None:
        for one in self.stayers:
            await one.leave()


# -- the processes ------------------------------------------------------------------------


async def features(plan: Plan) -> None:
    """Everybody who stays."""
    crowd = Features(plan)
    await crowd.start()
    tell(ready=True)
    async with asyncio.TaskGroup() as group:
        work = group.create_task(crowd.work())
        async for command in commands():
            if command == "stop":
                crowd.goes_on = False
                await work
            elif command == "mark":
                await crowd.mark()
            elif command == "books":
                tell(features=await crowd.books(), wrong=crowd.complaints.texts)
            elif command == "leave":
                await crowd.leave()
            tell(done=command)
            if command == "leave":
                return


async def workers(plan: Plan) -> None:
    """Members of the group, and a reader and a publisher that keep their place: all are killed."""
    site = plan.sites[0]
    tally = Tally(plan.marks(site, JOBS, "by-workers"))
    members = [
        Worker(plan, site, f"worker/{number}", tally, (0.0, 0.2), concurrency=number)
        for number in (1, 2)
    ]
    for member in members:
        await member.open()
        await member.join()
    blocking = kps.sync.Client(site.address, id="worker/blocking", reconnect=SOON)
    await asyncio.to_thread(_hire, blocking, Tally(plan.marks(site, JOBS, "by-blocking-worker")))
    journal = await _read_on(plan, site)
    resender = Resender(plan, site)
    await resender.open()
    tell(ready=True)
    async with asyncio.TaskGroup() as group:
        for one in (*members, journal, resender):
            group.create_task(one.break_often(lambda: True))
        group.create_task(resender.work())
        async for _ in commands():  # until whoever started this has gone
            pass


def _hire(client: kps.sync.Client, tally: Tally) -> None:
    """Make a blocking client a member of the group."""

    def execute(message: kps.Message) -> int:
        job = note(message, tally)
        time.sleep(random.uniform(0.0, 0.1))
        return job

    client.__enter__()
    client.subscribe(JOBS, execute, group=GROUP)


async def _read_on(plan: Plan, site: Site) -> Stayer:
    """Read a stream behind the last message that this program has noted before its end."""
    tally = Tally(plan.marks(site, PLACES, "places"))
    journal = Stayer(plan, site, "journal")
    await journal.open()
    since = None
    if tally.last > 0:
        past = await journal.client.history(PLACES, limit=1)
        since = kps.Position(past.position.epoch, tally.last)

    async def take(message: kps.Message) -> None:
        tally.add(message.data["n"])

    await journal.listen(PLACES, take, since=since)
    return journal


ROLES: dict[str, Callable[[Plan], Coroutine[None, None, None]]] = {
    "features": features,
    "workers": workers,
}


def main() -> None:
    role, plan = sys.argv[1], Plan.from_json(sys.argv[2])
    signal.alarm(plan.life)
    # Callbacks fail on purpose, and connections that end are counted.
    logging.getLogger("kps").setLevel(logging.CRITICAL)
    run(ROLES[role](plan))
    sys.stdout.flush()
    os._exit(0)  # the thread that reads the input would not end


if __name__ == "__main__":
    main()
