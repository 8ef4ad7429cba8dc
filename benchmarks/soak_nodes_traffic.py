"""What clients send and get while the processes of their server are struck, and what must hold.

Between ``settle`` and ``calm`` nothing is lost. From ``disturb`` to ``settle`` what is under way
may be, but nothing comes twice or out of order, and every question has its answers.
"""

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

import kps

MEMBERS = 4
READERS = 3
TIMEOUT = 30.0
"""Of ack requests, in seconds: longer than any fault."""
MARGIN = 5.0
"""Seconds that an answer may take beyond that, on a machine that has much else to do."""
PATIENCE = 60.0
PAUSE = 0.004
"""Seconds between two messages of one publisher."""


class Traffic:
    """Clients, and what they count."""

    def __init__(self, url: str) -> None:
        self.failures: list[str] = []
        self._url = url
        self._stack = AsyncExitStack()
        self._clients: dict[str, kps.Client] = {}
        self._works: list[asyncio.Task[None]] = []
        self._is_over = False
        self._is_disturbed = asyncio.Event()
        self._latest = "the beginning"
        self._sent: Counter[str] = Counter()
        self._plain: dict[str, list[int]] = {f"reader-{n}": [0] for n in range(READERS)}
        self._calm_from = 0
        self._lost_of_plain = 0
        self._kept: list[int] = []  # those with receipts
        self._got: list[int] = []
        self._is_known = True  # whether nothing has been told as lost since the latest of them
        self._lost = 0
        self._outcomes: Counter[str] = Counter()
        self._unanswered: Counter[str] = Counter()
        self._jobs: dict[int, kps.GroupResponse | None] = {}
        self._done: Counter[int] = Counter()
        self._nomads: list[kps.Client] = []
        self._numbers: dict[kps.Client, int] = {}
        self._moves = 0
        self._checks = 0
        self._seen = ""

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        for name in self._plain:
            reader = await self._client(name)
            await reader.subscribe("plain", self._reads(name))
        keeper = await self._client("keeper", on_lost=self._was_lost)
        await keeper.subscribe("kept/t", self._keep)
        for number in range(MEMBERS):
            member = await self._client(f"member-{number}")
            await member.subscribe("ask", lambda message: message.data)
            await member.subscribe("jobs", self._do, group="crew")
        for name in ("plain", "kept", "ask", "jobs", "direct", "probe"):
            await self._client(f"from-{name}")
        for client in self._clients.values():
            await client.subscribe("probe", lambda message: message.data)
        works = (
            *(self._publish_plain, self._publish_kept, self._ask, self._ask_for_jobs),
            *(self._ask_directly, self._wander),
        )
        self._works = [asyncio.create_task(work()) for work in works]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for work in self._works:
            work.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)
        for nomad in self._nomads:
            await nomad.close()
        await self._stack.__aexit__(exc_type, exc, traceback)

    async def _client(self, name: str, **options: Any) -> kps.Client:
        options |= {"reconnect": 0.05, "on_id": lambda message: message.data}
        client = await kps.Client.connect(self._url, id=name, **options)
        self._stack.push_async_callback(client.close)
        self._clients[name] = client
        return client

    # -- the time between two faults --------------------------------------------------------

    def disturb(self, fault: str) -> None:
        """Expect a fault."""
        self._latest = fault
        self._is_disturbed.set()

    async def settle(self) -> None:
        """Wait until all hear each other again, and check what must then hold."""
        self._is_disturbed.clear()
        await self._in_time("everybody answers a probe", self._all_answer)
        await self._in_time("each id has its holder", self._ids_answer)
        await self._in_time("presence tells who is there", self._presence_is_true)
        await self._in_time("an id has one holder", self._has_one_nomad)
        await self._in_time("the keeper has the latest message", self._has_latest)
        self._checks += 1
        if not await self._all_have(self._sent["plain"]):
            self._fail("a reader lacks the latest message though all is whole again")
        self._calm_from = self._sent["plain"]

    async def calm(self, seconds: float) -> None:
        """Let time pass in which nothing is lost."""
        await asyncio.sleep(seconds)
        last = self._sent["plain"]
        if not await self._all_have(last):
            self._fail("a reader lacks the latest message in a calm time")
        await self._in_time("the keeper has the latest message", self._has_latest)
        for name, got in self._plain.items():
            missing = last - self._calm_from - sum(self._calm_from < n <= last for n in got)
            if missing:
                self._fail(f"{name} lacks {missing} messages of a calm time")
            self._lost_of_plain += sum(later - earlier - 1 for earlier, later in pairwise(got))
            del got[:-1]  # the last one, to compare the next with

    async def finish(self) -> None:
        """End, and check what must hold over all of the time."""
        await self.calm(1.0)
        self._is_over = True
        await asyncio.wait(self._works, timeout=PATIENCE)
        for work in self._works:
            if not work.done():
                self._fail("a question has no answer")
            elif error := work.exception():
                self._fail(f"a task ended with {error!r}")
        await self._in_time("the keeper has the latest message", self._has_latest)
        lacking = set(self._kept) - set(self._got)
        if lacking and not self._lost:
            self._fail(f"{len(lacking)} kept messages are missing, and nobody was told")
        for number, response in self._jobs.items():
            if response is None:
                continue
            if response.error not in (None, "no member", "timeout", "disconnected"):
                self._fail(f"a job ended with {response.error!r}")
            if not int(response.success) <= self._done[number] <= response.attempts:
                self._fail(
                    f"job {number} was done {self._done[number]} times, "
                    f"{response.attempts} attempts were told"
                )

    def counts(self) -> dict[str, int]:
        """What there was."""
        return {
            "published without history": self._sent["plain"],
            "of them lost to a subscriber during a fault": self._lost_of_plain,
            "published with history": self._sent["kept"],
            "of them with a receipt": len(self._kept),
            "times that the client was told of a loss": self._lost,
            "ack requests to all": self._sent["ask"],
            "ack requests to an id": self._sent["direct"],
            "jobs": self._sent["jobs"],
            **{f"outcomes: {name}": count for name, count in sorted(self._outcomes.items())},
            **{f"no answer: {name}": count for name, count in sorted(self._unanswered.items())},
            "ids taken over": self._moves,
            "checks when all was whole": self._checks,
        }

    def _fail(self, text: str) -> None:
        self.failures.append(f"after {self._latest!r}: {text}")
        print(self.failures[-1], file=sys.stderr, flush=True)

    # -- what must hold when all is whole ---------------------------------------------------

    async def _in_time(self, what: str, holds: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(kps.KPSError):
                if await holds():
                    return
            if time.monotonic() > deadline:
                self._fail(f"not so: {what} ({self._seen})")
                return
            await asyncio.sleep(0.1)

    async def _all_answer(self) -> bool:
        ack = await self._clients["from-probe"].publish_with_ack("probe", 1, timeout=5.0)
        responses = await ack.wait()
        done = {name for name, response in responses.items() if response.success}
        return done == set(self._clients)

    async def _ids_answer(self) -> bool:
        for name in self._clients:
            ack = await self._clients["from-probe"].publish_to_id_with_ack(name, name, 5.0)
            responses = await ack.wait()
            if [response.result for response in responses.values()] != [name]:
                return False
        return True

    async def _presence_is_true(self) -> bool:
        presence = await self._clients["from-probe"].presence("ask")
        return set(presence.members or ()) == {f"member-{number}" for number in range(MEMBERS)}

    async def _has_one_nomad(self) -> bool:
        if not self._nomads:
            return True
        ack = await self._clients["from-probe"].publish_to_id_with_ack("nomad", 0, 5.0)
        answers = [response.result for response in (await ack.wait()).values()]
        there = [number for number, one in enumerate(self._nomads) if one.is_connected]
        numbers = [self._numbers[self._nomads[one]] for one in there]
        self._seen = f"{numbers} of {self._moves} are there, {answers} answer"
        if len(numbers) != 1 or answers != numbers:
            return False
        holder = self._nomads.pop(there[0])
        for other in self._nomads:
            await other.close()
        self._nomads, self._numbers = [holder], {holder: self._numbers[holder]}
        return True

    async def _all_have(self, number: int) -> bool:
        deadline = time.monotonic() + 10.0
        while any(got[-1] < number for got in self._plain.values()):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    async def _has_latest(self) -> bool:
        latest, deadline = self._kept[-1] if self._kept else 0, time.monotonic() + 5.0
        while not self._got or self._got[-1] < latest:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    # -- what comes -------------------------------------------------------------------------

    def _reads(self, name: str) -> Callable[[kps.Message], None]:
        got = self._plain[name]

        def take(message: kps.Message) -> None:
            if message.data <= got[-1]:
                self._fail(f"{name} got {message.data} behind {got[-1]}")
            got.append(message.data)

        return take

    def _keep(self, message: kps.Message) -> None:
        if self._got and message.data <= self._got[-1] and self._is_known:
            self._fail(f"the keeper got {message.data} behind {self._got[-1]}")
        self._got.append(message.data)
        self._is_known = True

    def _was_lost(self, lost: kps.Lost) -> None:
        self._lost += 1
        self._is_known = False

    def _do(self, message: kps.Message) -> int:
        self._done[message.data] += 1
        return int(message.data)

    # -- what is sent -----------------------------------------------------------------------

    async def _publish_plain(self) -> None:
        client = self._clients["from-plain"]
        while not self._is_over:
            with contextlib.suppress(kps.KPSError):
                await client.publish("plain", self._sent["plain"] + 1)
                self._sent["plain"] += 1
            await asyncio.sleep(PAUSE)

    async def _publish_kept(self) -> None:
        client = self._clients["from-kept"]
        while not self._is_over:
            self._sent["kept"] += 1
            number = self._sent["kept"]
            with contextlib.suppress(kps.KPSError):
                await client.publish_with_receipt("kept/t", number)
                self._kept.append(number)
            await asyncio.sleep(PAUSE)

    async def _wait_for(
        self, kind: str, asking: Callable[[int], Awaitable[kps.Ack[Any]]]
    ) -> dict[str, kps.AckResponse[Any]]:
        """Ask, and return the outcomes; none if the asker's own connection has ended."""
        self._sent[kind] += 1
        began = time.monotonic()
        responses: dict[str, kps.AckResponse[Any]] = {}
        try:
            ack = await asking(self._sent[kind])
            responses = await ack.wait()
        except kps.KPSError as error:
            self._unanswered[type(error).__name__] += 1
            await asyncio.sleep(0.02)
        if time.monotonic() - began > TIMEOUT + MARGIN:
            self._fail(f"a request on {kind!r} took longer than its timeout")
        for response in responses.values():
            self._outcomes[response.error or "done"] += 1
        await asyncio.sleep(PAUSE)
        return responses

    async def _ask(self) -> None:
        client = self._clients["from-ask"]
        while not self._is_over:
            await self._wait_for(
                "ask", lambda number: client.publish_with_ack("ask", number, timeout=TIMEOUT)
            )

    async def _ask_directly(self) -> None:
        client = self._clients["from-direct"]

        def ask(number: int) -> Awaitable[kps.Ack[Any]]:
            to = f"member-{number % MEMBERS}"
            return client.publish_to_id_with_ack(to, number, timeout=TIMEOUT)

        while not self._is_over:
            responses = await self._wait_for("direct", ask)
            for response in responses.values():
                if response.success and response.result != self._sent["direct"]:
                    self._fail("an answer to another question came")

    async def _ask_for_jobs(self) -> None:
        client = self._clients["from-jobs"]
        while not self._is_over:
            responses = await self._wait_for(
                "jobs", lambda number: client.publish_with_ack("jobs", number, timeout=TIMEOUT)
            )
            response = next(iter(responses.values()), None)
            assert response is None or isinstance(response, kps.GroupResponse)
            self._jobs[self._sent["jobs"]] = response

    async def _wander(self) -> None:
        """Take an id over, again and again while something is struck."""
        while not self._is_over:
            if not self._is_disturbed.is_set():
                await asyncio.sleep(0.05)
                continue
            number = self._moves + 1
            with contextlib.suppress(kps.KPSError, TimeoutError):
                async with asyncio.timeout(5.0):
                    nomad = await kps.Client.connect(
                        self._url, id="nomad", reconnect=False, on_id=partial(_say, number)
                    )
                self._moves = number
                self._numbers[nomad] = number
                self._nomads.append(nomad)
            await asyncio.sleep(0.2)


def _say(number: int, _: kps.Message) -> int:
    return number
