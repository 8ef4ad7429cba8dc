"""Messages of the broker, on their way to the bus."""

import asyncio
import contextlib
import itertools
import logging
import secrets
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from kps.errors import ClientClosed
from kps.io_asyncio.client import Client
from kps.io_common.logger import write
from kps.mqtt.broker import BrokerFailed, BrokerLink
from kps.mqtt.core.books import Account, Books
from kps.mqtt.core.carrying import Inward, inwards
from kps.mqtt.core.intake import Entry, Intake
from kps.mqtt.core.packets import Filter, Publish
from kps.mqtt.core.reasons import REFUSED, SUCCESS, in_words
from kps.mqtt.core.refusal import Refusal
from kps.mqtt.core.retained import Latest
from kps.mqtt.core.rules import InRule, Retained
from kps.mqtt.core.settings import Settings
from kps.mqtt.giving import Again, Giver
from kps.mqtt.turns import Turns
from kps.protocol.patterns import Pattern

_MOST_WAITING = 1000  # messages, after which we read no more from the broker
_MUCH = 16 * 1024 * 1024  # bytes, likewise
_HANDLING = {Retained.ALWAYS: 0, Retained.ONCE: 1, Retained.NEVER: 2}
_QUIET = frozenset(("looped", "retained", "retained_again"))  # what needs no line of the log
_UNKNOWN = "in, no rule"


class _Waiting(NamedTuple):
    message: Publish
    entry: Entry | None  # with QoS 1


class Inwards:
    """The direction from the broker to the bus."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        link: BrokerLink,
        books: Books,
        is_ours: Callable[[str], bool],
    ) -> None:
        self._rules = settings.ins
        self._place = settings.place
        self._link = link
        self._books = books
        self.bus = Giver(client, is_ours)
        self._turns = Turns(lambda: self.bus.is_held, self.bus.until_free)
        self._numbers = itertools.count()  # of messages, in the order of their arrival
        self._intake = Intake()
        self._latest = Latest()
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0  # of messages that wait or are under way
        self._places = asyncio.Semaphore(settings.window)
        self._news = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()
        self._asked: list[InRule] = []  # what the latest SUBSCRIBE was about
        self._has_subscribed = False
        self._is_ending = False
        self._is_over = False  # whether the time for what is under way has ended, too
        self._has_started = False  # whether tasks have begun that have not run yet
        self._failure: BaseException | None = None
        self._names = (f"{secrets.token_hex(6)}-{number}" for number in itertools.count(1))
        for rule in self._rules:
            books.account(rule.name)

    # -- the connection to the broker -------------------------------------------------------

    def opened(self, session_present: bool) -> None:
        """Subscribe, unless the broker has kept the subscriptions of this process."""
        self._intake.opened(session_present)
        is_kept = session_present and self._has_subscribed
        rules = [rule for rule in self._rules if not is_kept or rule.retained is Retained.ALWAYS]
        if rules:
            self._link.subscribe(
                [Filter(one.filter, one.qos, _HANDLING[one.retained]) for one in rules]
            )
            self._asked = rules

    def subscribed(self, codes: tuple[int, ...]) -> None:
        """The broker has answered. Raises :class:`BrokerFailed`."""
        for rule, code in zip(self._asked, codes, strict=False):
            if code >= REFUSED:
                reason = in_words(code)
                raise BrokerFailed(f"the broker refuses the filter {rule.filter!r}: {reason}")
            if code < rule.qos:
                raise BrokerFailed(f"the broker gives the filter {rule.filter!r} QoS 0 only")
        self._has_subscribed = True

    def lost(self) -> None:
        """The connection is gone."""
        self._intake.lost()

    def arrived(self, message: Publish) -> None:
        """Take a message."""
        entry = None
        if message.qos:
            entry = self._intake.came(message)
            if entry is None:
                self._books.events["sent again by the broker"] += 1
                self._acknowledge()
                return
        if self._is_ending:
            self._leave(message)
            return
        self._waiting.append(_Waiting(message, entry))
        self._bytes += message.weight
        self._news.set()
        if len(self._waiting) > _MOST_WAITING or self._bytes > _MUCH:
            self._read()

    def _read(self) -> None:
        has_room = len(self._waiting) <= _MOST_WAITING and self._bytes <= _MUCH
        self._link.read(has_room or self._is_ending)

    # -- the way ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Carry messages, in the order of their arrival."""
        while True:
            while not self._waiting:
                self._news.clear()
                await self._news.wait()
                if self._failure is not None:
                    raise self._failure
            waiting = self._waiting.popleft()
            try:
                await self._carry(*waiting)
            finally:
                if waiting.entry is None:
                    self._bytes -= waiting.message.weight
                self._read()

    async def finish(self, timeout: float) -> None:
        """Take no more messages, and wait for what is under way.

        The connection is read all the same, as the broker's answers to ours come over it.
        """
        self._is_ending = True
        self._read()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._under_way or self._waiting:
                    if self._under_way:
                        await asyncio.wait(self._under_way, timeout=0.05)
                    else:
                        await asyncio.sleep(0.01)
        self._is_over = True
        self._turns.close()
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        while self._waiting:
            self._leave(self._waiting.popleft().message)

    def _leave(self, message: Publish) -> None:
        """Note that a message came too late; one with QoS 1 comes again after the next start."""
        account = self._account(self._rule_for(message.topic))
        account.came += 1
        account.not_passed["left_to_broker" if message.qos else "at_end"] += 1

    def _rule_for(self, topic: str) -> InRule | None:
        for rule in self._rules:
            if rule.has(topic):
                return rule
        return None

    def _account(self, rule: InRule | None) -> Account:
        return self._books.account(_UNKNOWN if rule is None else rule.name)

    async def _carry(self, message: Publish, entry: Entry | None) -> None:
        rule = self._rule_for(message.topic)
        account = self._account(rule)
        account.came += 1
        try:
            if rule is None:  # of a session with other rules
                raise Refusal("no_rule", "no rule has the topic")
            self._check_retained(rule, message)
            inward = inwards(rule, message, self._place)
        except Refusal as refusal:
            self._refused(rule, message, entry, refusal)
            return
        if entry is None:
            if self._has_started:  # those with QoS 1 in front of it begin first
                self._has_started = False
                await asyncio.sleep(0)
            await self._publish(rule, account, message, inward)
            return
        try:
            await self._places.acquire()
        except asyncio.CancelledError:
            account.not_passed["left_to_broker"] += 1
            raise
        if self._is_over:
            account.not_passed["left_to_broker"] += 1
            return
        number = next(self._numbers)
        task = asyncio.create_task(self._deliver(rule, account, entry, inward, number))
        self._has_started = True
        self._under_way.add(task)
        task.add_done_callback(partial(self._delivered, account))

    def _check_retained(self, rule: InRule, message: Publish) -> None:
        if message.retain and rule.retained is Retained.NEVER:
            raise Refusal("retained", "it is a retained message")
        if (
            message.retain
            and rule.retained is Retained.ONCE
            and self._latest.is_known(message.topic, message.payload)
        ):
            raise Refusal("retained_again", "the bus has had this retained message")

    def _passed(self, rule: InRule, account: Account, message: Publish) -> None:
        account.passed += 1
        if rule.retained is Retained.ONCE:
            self._latest.note(message.topic, message.payload)

    def _refused(
        self, rule: InRule | None, message: Publish, entry: Entry | None, refusal: Refusal
    ) -> None:
        self._account(rule).not_passed[refusal.name] += 1
        log_refusal(message.topic, refusal, None if rule is None else rule.renamed(message.topic))
        if entry is not None:
            is_quiet = refusal.name in _QUIET  # the sender has done nothing wrong
            self._settle(entry, SUCCESS if is_quiet else refusal.code)

    def _settle(self, entry: Entry, code: int) -> None:
        self._bytes -= entry.message.weight
        self._intake.settle(entry, code)
        self._acknowledge()
        self._read()

    def _acknowledge(self) -> None:
        if self._link.is_open:
            for pid, code in self._intake.take():
                self._link.acknowledge(pid, code)

    # -- QoS 0 ------------------------------------------------------------------------------

    async def _publish(
        self, rule: InRule, account: Account, message: Publish, inward: Inward
    ) -> None:
        try:
            if self.bus.is_connected:  # else it is dropped
                await self._turns.come(next(self._numbers))
            await self.bus.publish(inward)
        except Refusal as refusal:
            self._refused(rule, message, None, refusal)
        except asyncio.CancelledError:
            account.not_passed["at_end"] += 1
            raise
        else:
            self._passed(rule, account, message)

    # -- QoS 1 ------------------------------------------------------------------------------

    def _delivered(self, account: Account, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._places.release()
        if task.cancelled():  # perhaps before it had begun
            account.not_passed["left_to_broker"] += 1
        elif task.exception() is not None:  # a mistake of ours
            self._failure = task.exception()
            self._news.set()

    async def _deliver(
        self, rule: InRule, account: Account, entry: Entry, inward: Inward, number: int
    ) -> None:
        """Give a message to the bus until it has taken or refused it."""
        name = next(self._names)
        while True:
            try:
                await self._turns.come(number)
                code = await self.bus.give(rule, inward, name)
            except Again as again:
                account.retries += 1
                if again.is_answered:
                    name = next(self._names)
                    await self.bus.until_again()  # and others go meanwhile
            except Refusal as refusal:
                self._refused(rule, entry.message, entry, refusal)
                return
            except ClientClosed:  # the broker sends it again, to the next bridge with this id
                account.not_passed["left_to_broker"] += 1
                return
            else:
                self._passed(rule, account, entry.message)
                self._settle(entry, code)
                return


def is_among(topic: str, scopes: list[str | Pattern]) -> bool:
    """Tell whether one of some subscriptions has a topic."""
    return any(
        scope == topic if isinstance(scope, str) else scope.selects(topic) for scope in scopes
    )


def log_refusal(topic: str, refusal: Refusal, other: str | None = None) -> None:
    """Log that a message does not pass, unless that is as it should be.

    ``other`` is its topic on the other side, if a rule has one for it.
    """
    if refusal.name not in _QUIET and refusal.name != "own":
        text = "a message of %(topic)r"
        text += " as %(other)r" if other and other != topic else ""
        text += " does not pass (%(name)s): %(reason)s"
        write(
            logging.WARNING,
            "message_refused",
            text,
            topic=topic,
            other=other or "",
            name=refusal.name,
            reason=str(refusal),
        )
