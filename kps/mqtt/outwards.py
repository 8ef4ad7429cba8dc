"""Messages of the bus, on their way to the broker."""

import asyncio
import contextlib
from functools import partial
from typing import Any

from kps.errors import KPSError, ServerError, Unsupported
from kps.io_asyncio.client import Client
from kps.io_asyncio.subscription import Subscription
from kps.mqtt.broker import BrokerLink
from kps.mqtt.core.books import Account, Books
from kps.mqtt.core.carrying import outwards
from kps.mqtt.core.packets import V5, Publish
from kps.mqtt.core.reasons import NO_ANSWER, REFUSED, TOO_LARGE, in_words
from kps.mqtt.core.refusal import Refusal
from kps.mqtt.core.rules import OutRule
from kps.mqtt.core.sending import Outgoing
from kps.mqtt.core.settings import Settings
from kps.mqtt.inwards import is_among, log_refusal
from kps.protocol.bus.message import Acknowledgement, Message

_NAMES = {TOO_LARGE: "too_large", NO_ANSWER: "at_end"}


class Outwards:
    """The direction from the bus to the broker."""

    def __init__(self, settings: Settings, client: Client, link: BrokerLink, books: Books) -> None:
        self._rules = settings.outs
        self._scopes = [rule.scope for rule in settings.outs]
        self._place = settings.place
        self._client = client
        self._link = link
        self._books = books
        self._subscriptions: dict[str, Subscription[Any]] = {}
        self._is_ending = asyncio.Event()
        self._is_done = asyncio.Event()
        for rule in self._rules:
            books.account(rule.name)

    def has(self, topic: str) -> bool:
        """Tell whether this bridge is subscribed to a topic of the bus."""
        return is_among(topic, self._scopes)

    async def subscribe(self) -> None:
        """Subscribe by all rules. Raises :class:`kps.KPSError`."""
        for rule in self._rules:
            take = partial(self._take, rule, self._books.account(rule.name))
            try:
                self._subscriptions[rule.name] = await self._client.subscribe(rule.scope, take)
            except (ServerError, Unsupported) as error:
                raise _refused_pattern(rule, error) from None

    def check(self) -> None:
        """Raise :class:`kps.KPSError` if the bus has ended a subscription, after a reconnect."""
        for rule in self._rules:
            subscription = self._subscriptions.get(rule.name)
            if subscription is not None and (error := subscription._mailbox.error) is not None:
                raise _refused_pattern(rule, error)

    def count_dropped(self) -> None:
        """Note in the books what had no room while the broker was away."""
        for name, subscription in self._subscriptions.items():
            account = self._books.account(name)
            more = subscription.dropped - account.not_passed["queue_full"]
            account.came += more
            account.not_passed["queue_full"] += more
            if not account.not_passed["queue_full"]:
                del account.not_passed["queue_full"]

    async def finish(self, timeout: float) -> None:
        """Take no more from the bus, and wait for the broker's answers to what is under way."""
        self._is_ending.set()
        await asyncio.sleep(0)
        for name, subscription in self._subscriptions.items():
            left = subscription._mailbox.unhandled  # which the end of the subscription drops
            await subscription.unsubscribe()
            account = self._books.account(name)
            account.came += left
            if left:
                account.not_passed["at_end"] += left
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._link.session.under_way:
                    self._is_done.clear()
                    await self._is_done.wait()
        for one in self._link.session.give_up():
            one.done(NO_ANSWER, "")
        self.count_dropped()

    # -- the way ----------------------------------------------------------------------------

    async def _take(self, rule: OutRule, account: Account, message: Message[Any]) -> None:
        """Handle a message: its acknowledgement comes when the broker has answered.

        So it is taken from the message here, or the return of this callback would be the ack.
        """
        account.came += 1
        due, message.acknowledgement = message.acknowledgement, None
        try:
            publish = await self._with_room(rule, message)
        except Refusal as refusal:
            self._refused(account, message, due, refusal)
            return
        self._link.publish(Outgoing(publish, partial(self._done, account, message, due)))

    async def _with_room(self, rule: OutRule, message: Message[Any]) -> Publish:
        """Return what to publish, once there is room for it. Raises :class:`Refusal`."""
        if message.sender == self._client.id:
            raise Refusal("own", "the bridge has published it itself")
        link = self._link
        publish = outwards(
            rule,
            message.topic,
            message.data,
            message.headers,
            self._place,
            has_properties=link.session.version == V5,
        )
        if not rule.qos and not link.is_open:
            raise Refusal("broker_away", "the broker is away")
        if not link.session.fits(publish):
            raise Refusal("too_large", "it is larger than the broker takes")
        await self._room(rule.qos)
        if not rule.qos and not link.is_open:
            raise Refusal("broker_away", "the broker is away")
        return publish

    async def _room(self, qos: int) -> None:
        """Wait for room, but not beyond the end."""
        link = self._link
        if link.has_room(qos):
            return
        room = asyncio.ensure_future(link.room(qos))
        end = asyncio.ensure_future(self._is_ending.wait())
        try:
            await asyncio.wait((room, end), return_when=asyncio.FIRST_COMPLETED)
        finally:
            end.cancel()
            if not room.done():
                room.cancel()
        if not link.has_room(qos):
            raise Refusal("at_end", "the bridge ends")

    def _done(
        self,
        account: Account,
        message: Message[Any],
        due: Acknowledgement | None,
        code: int,
        reason: str,
    ) -> None:
        """Take the broker's answer."""
        self._is_done.set()
        if code >= REFUSED:
            name = _NAMES.get(code, "broker_refused")
            text = in_words(code, reason)
            if code != NO_ANSWER:
                text = f"the broker refuses it: {text}"
            self._refused(account, message, due, Refusal(name, text, code))
            return
        account.passed += 1
        self._settle(message, due, None)

    def _refused(
        self,
        account: Account,
        message: Message[Any],
        due: Acknowledgement | None,
        refusal: Refusal,
    ) -> None:
        account.not_passed[refusal.name] += 1
        log_refusal(message.topic, refusal)
        self._settle(message, due, None if refusal.name == "own" else str(refusal))

    def _settle(
        self, message: Message[Any], due: Acknowledgement | None, error: str | None
    ) -> None:
        if due is not None:
            message.acknowledgement = due
            with contextlib.suppress(KPSError):  # the client has been closed
                self._client._settle(message, error)


def _refused_pattern(rule: OutRule, error: KPSError) -> KPSError:
    return KPSError(f"the bus refuses the pattern {rule.pattern!r}: {error}")
