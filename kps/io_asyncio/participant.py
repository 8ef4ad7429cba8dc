"""The base of client and server: subscriptions and acks of the program."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, overload

from kps.errors import NobodyThere, RequestFailed, RequestTimeout
from kps.io_asyncio.ack import Ack
from kps.io_asyncio.dispatch import check_callback
from kps.io_asyncio.driver import Driver
from kps.io_asyncio.handle import begun
from kps.io_asyncio.locked import locked
from kps.io_asyncio.runtime import Runtime
from kps.io_asyncio.subscription import Messages, Subscription
from kps.io_common.events import EventQueue
from kps.io_common.inline import check_inline
from kps.protocol.bus.ack_handle import AckHandle
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.members import PresenceCallback, check_wish
from kps.protocol.bus.message import Message, T
from kps.protocol.bus.past import check_start
from kps.protocol.bus.subscriptions import (
    Subscriptions,
    Wanted,
    check_concurrency,
    check_group,
)
from kps.protocol.dialect.outcome import has_asked_nobody
from kps.protocol.dialect.places import Position
from kps.protocol.limits import check_seconds
from kps.protocol.patterns import Key, Scope

_FEW = 16  # questions under way, with which the next one leaves at once


class Participant(ABC):
    """A participant in the bus: a client, or the program that runs a server."""

    _new_runtime: ClassVar[Callable[..., Runtime]] = Runtime
    """Makes the runtime. A test can put its own here: a class, or a function that takes this
    participant, whose options are known by then."""

    _driver: Driver

    def __init__(self) -> None:
        self._events = EventQueue()
        self._acks: dict[AckHandle, Ack[Any]] = {}

    @overload
    def subscribe(
        self,
        topic: Scope,
        callback: None = None,
        timeout: float | None = None,
        *,
        since: Position | None = None,
        last: int = 0,
        presence: PresenceCallback | None = None,
        info: dict[str, Any] | None = None,
        group: str = "",
        concurrency: int = 1,
    ) -> Messages[Any]: ...

    @overload
    def subscribe(
        self,
        topic: Scope,
        callback: Callable[[Message[T]], object],
        timeout: float | None = None,
        *,
        inline: bool = False,
        since: Position | None = None,
        last: int = 0,
        presence: PresenceCallback | None = None,
        info: dict[str, Any] | None = None,
        group: str = "",
        concurrency: int = 1,
    ) -> Subscription[T]: ...

    @locked
    def subscribe(
        self,
        topic: Scope,
        callback: Callable[[Message[Any]], object] | None = None,
        timeout: float | None = None,
        *,
        inline: bool = False,
        since: Position | None = None,
        last: int = 0,
        presence: PresenceCallback | None = None,
        info: dict[str, Any] | None = None,
        group: str = "",
        concurrency: int = 1,
    ) -> Subscription[Any]:
        """Subscribe to a topic, or a :class:`kps.Pattern` of topics.

        On asyncio, ``await`` the result to wait for the confirmation. A message comes once to each
        subscription that has its topic; ``message.topic`` tells it.

        ``callback`` takes a :class:`kps.Message`. It handles messages one after the other, in
        the order of each publisher. Whatever it raises is logged, and reported to a publisher
        that wants an ack; the subscription goes on. On asyncio a coroutine function runs on the
        event loop; a plain function runs in a thread, so it may block, and must not touch asyncio
        objects; a slow callback delays no other subscription. On threads the callbacks of a
        client, or of a server, run on one thread of their own.

        With ``inline`` a plain function that never blocks is called where messages come in, which
        costs least: on asyncio on the event loop, on threads on the thread that reads the socket.
        While it runs, nothing else is read or written there, and on threads a method that waits
        for an answer raises :class:`kps.InvalidState`.

        Of a topic with history (:class:`kps.History`), the latest messages come first with
        ``last``, as many as it says (for a pattern: of each topic), or with ``since`` those behind
        a place, the ``position`` of a message or subscription. After a reconnect the client gets
        by itself what it has missed: see ``on_recovered`` and ``on_lost``. This needs to be the
        first subscription of a client that has the topic. The program of a server asks for the past
        with ``history`` instead.

        ``info`` is what this program says about itself to those who see who is subscribed to the
        topic: a dictionary of JSON values. To subscribe again changes it. ``presence`` is called
        with a :class:`kps.Presence` at first and after each change of who is subscribed, as a
        callback for messages would be, with a permission of its own. A server has hooks instead.
        Both are for a topic, not for a pattern.

        With ``group`` this program is a member of the group of that name: each message goes to one
        of its members. They take turns; a message that wants an ack goes to the one that has the
        least to do, and none has more than ``concurrency`` of those at a time. If the member is
        gone before it has answered, another one gets the message: see ``message.attempt``. A
        program is a member of a group once; several tasks or threads share an iterator.

        Without a callback the result is an iterator of messages, :class:`kps.Messages`. With
        ``timeout`` it raises :class:`kps.RequestTimeout` when no message comes for that many
        seconds. Subscribing takes effect at once if connected, otherwise with the next
        connection.

        Raises :class:`kps.InvalidArgument` for a bad topic or callback (a coroutine function is
        one on threads, and with ``inline``), :class:`kps.InvalidState` when not started or for the
        past of a topic that the client has already,
        :class:`kps.ClientClosed` or :class:`kps.ServerStopped` after the end,
        :class:`kps.QueueFull` while very many questions about topics wait,
        :class:`kps.Unsupported` for what the server lacks. Awaiting the result
        (on threads this method itself) raises :class:`kps.ServerError` if the server refuses the
        topic, and :class:`kps.RequestTimeout` if it does not answer; then there is no subscription.
        Iterating raises :class:`kps.ServerError` if the server refuses the topic after a
        reconnect.
        """
        now = self._driver.enter()
        check_callback("a callback", callback)
        check_inline(inline, callback)
        if timeout is not None:
            check_seconds("timeout", timeout)
        check_callback("presence", presence)
        wish = check_wish(topic, info, presence)
        at_once = check_concurrency(concurrency)
        wanted = Wanted(check_start(topic, since, last), wish, presence, at_once)
        key = check_group(topic, group, wanted)
        mailbox = self._open_mailbox(key, now, wanted)
        try:
            subscription: Subscription[Any]
            if callback is None:
                subscription = Messages(self, mailbox, self._driver.iterate(mailbox), timeout)
            else:
                self._driver.attach(mailbox, callback, inline)
                subscription = Subscription(self, mailbox)
            self._driver.progress()
            return begun(subscription)
        except BaseException:  # on threads also Ctrl-C; nobody could end the subscription later
            if not mailbox.is_over:
                self._unsubscribe(mailbox)
            raise

    @locked
    async def unsubscribe(self, topic: Scope) -> None:
        """End every subscription of this program to a topic, or to a pattern, groups included.

        Raises :class:`kps.InvalidState` when not started, and :class:`kps.ServerStopped` after
        the end of a server.
        """
        self._driver.enter()
        for mailbox in self._subscriptions.of_scope(topic):
            self._unsubscribe(mailbox)

    async def request(
        self,
        topic: str,
        data: Any,
        timeout: float = 5.0,
        *,
        key: str = "",
        retry: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Ask the subscribers of a topic, and return the first result.

        That is what a callback of one of them has returned; the others are not waited for. If all
        fail, it raises :class:`kps.RequestFailed` with the errors, or :class:`kps.RequestTimeout`
        if all of them are silent for ``timeout`` seconds; :class:`kps.NobodyThere` if the topic has
        no subscriber, :class:`kps.ConnectionLost` when the connection ends; and it raises as
        ``publish_with_ack``. From a subscriber on level 1 the result is ``None``.
        """
        ack = await self.publish_with_ack(
            topic, data, timeout, key=key, retry=retry, headers=headers
        )
        return await self._result_of(ack, topic)

    async def request_to_id(
        self,
        client_id: str,
        data: Any,
        timeout: float = 5.0,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Ask the client, or server, of an id; return its result. Raises as ``request``."""
        ack = await self.publish_to_id_with_ack(client_id, data, timeout, headers=headers)
        return await self._result_of(ack, client_id)

    async def _result_of(self, ack: Ack[Any], target: str) -> Any:
        """Wait for the first result. Raises the error of a request that gets none."""
        failures: dict[str, str] = {}
        try:
            async for response in ack:
                if response.success:
                    return response.result
                if not has_asked_nobody(response):
                    failures[response.client_id or response.name] = response.error or ""
        finally:  # also when the caller is cancelled: nobody waits for the others any more
            await ack.cancel()
        if not failures:
            raise NobodyThere(f"nobody takes requests to {target!r}")
        if set(failures.values()) == {"timeout"}:
            raise RequestTimeout(f"no answer to the request to {target!r} in time")
        raise RequestFailed(target, failures)

    # -- what client and server do in their own ways --------------------------------------------

    @abstractmethod
    async def publish(
        self, topic: str, data: Any, *, headers: Mapping[str, str] | None = None
    ) -> int | None: ...

    @abstractmethod
    async def publish_to_id(
        self, client_id: str, data: Any, *, headers: Mapping[str, str] | None = None
    ) -> bool | None: ...

    @abstractmethod
    async def publish_with_ack(
        self,
        topic: str,
        data: Any,
        timeout: float = 5.0,
        *,
        expect: Sequence[str] = (),
        expect_groups: Sequence[str] = (),
        key: str = "",
        retry: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> Ack[Any]: ...

    @abstractmethod
    async def publish_to_id_with_ack(
        self,
        client_id: str,
        data: Any,
        timeout: float = 5.0,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Ack[Any]: ...

    # -- called by subscriptions and acks -----------------------------------------------------

    @property
    @abstractmethod
    def _subscriptions(self) -> Subscriptions: ...

    @abstractmethod
    def _open_mailbox(self, key: Key, now: float, wanted: Wanted) -> Mailbox: ...

    @abstractmethod
    def _close_mailbox(self, mailbox: Mailbox) -> None: ...

    @abstractmethod
    async def _confirmed(self, mailbox: Mailbox) -> None: ...

    @abstractmethod
    def _settle_in_core(self, message: Message[Any], error: str | None, result: Any) -> None: ...

    @abstractmethod
    def _end_of_messages(self) -> Exception | None: ...

    @abstractmethod
    async def _ack_status(self, handle: AckHandle) -> dict[str, bool]: ...

    @abstractmethod
    def _cancel_ack(self, handle: AckHandle) -> None: ...

    @locked
    def _settle(
        self, message: Message[Any], error: str | None, result: Any = None, *, more: bool = False
    ) -> None:
        """Note the outcome of a message; ``more`` tells whether another is to follow at once."""
        self._settle_in_core(message, error, result)
        if more:
            self._driver.progress()
        else:
            self._driver.step_now()

    @locked
    def _unsubscribe(self, mailbox: Mailbox) -> None:
        self._close_mailbox(mailbox)
        self._driver.detach(mailbox)
        self._driver.progress()

    def _ack_for(self, handle: AckHandle) -> Ack[Any]:
        ack: Ack[Any] = Ack(self, self._driver, handle)
        self._send_question(len(self._acks))
        if not handle.finished:
            self._acks[handle] = ack
        return ack

    def _send_question(self, under_way: int) -> None:
        """Let a question to the server leave: at once, unless so many are under way."""
        if under_way > _FEW:  # the program may go on to the next one
            self._driver.flush_soon()
        else:
            self._driver.step_now()

    def _ack_changed(self, handle: AckHandle) -> None:
        ack = self._acks.pop(handle, None) if handle.finished else self._acks.get(handle)
        if ack is not None:
            ack._changed()
