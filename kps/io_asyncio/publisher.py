"""The verbs of a client that send, and its waits for the server's answers."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from threading import get_ident
from typing import Any

from kps.errors import ClientClosed, ConnectionLost, RequestTimeout
from kps.io_asyncio.ack import Ack
from kps.io_asyncio.client_driver import ClientDriver
from kps.io_asyncio.locked import locked
from kps.io_asyncio.news import News
from kps.io_asyncio.participant import Participant
from kps.io_common.client_options import HIGH_WATER, ClientSettings
from kps.protocol.bus.given import check_demands, check_headers, check_message_id
from kps.protocol.bus.members import Presence
from kps.protocol.bus.message import Message
from kps.protocol.bus.past import Past, check_limit, check_start
from kps.protocol.client.pending import Barrier
from kps.protocol.client.session import ClientSession
from kps.protocol.dialect.outcome import Receipt
from kps.protocol.dialect.places import Position, Start


class Publisher(Participant):
    """What a client sends, and what it waits for."""

    _driver: ClientDriver
    _session: ClientSession
    _settings: ClientSettings

    def __init__(self) -> None:
        super().__init__()
        self._connects = 0
        self._waiting: dict[object, list[News]] = {}

    @locked
    async def publish(
        self, topic: str, data: Any, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Publish to all subscribers of the topic.

        ``headers`` are texts that go with the payload, such as a ``traceparent``: see
        ``message.headers``. A server that does not know them raises :class:`kps.Unsupported`.

        Queues the message, and returns at once unless the network is slower than the program:
        then it waits until the queue has drained below its high-water mark. Delivery is at most
        once: a message may be lost with the connection.

        Raises :class:`kps.NotConnected` without a connection (unless there is an offline
        queue), :class:`kps.QueueFull` when that is full, :class:`kps.InvalidArgument` for an
        empty topic or a payload that is not JSON, :class:`kps.MessageTooLarge`. While it waits,
        it raises :class:`kps.ClientClosed` when the client is closed, and
        :class:`kps.ConnectionLost` when the connection ends (unless the offline queue keeps the
        message); it is then unknown whether the message was sent.
        """
        driver = self._driver
        if headers is not None and (written := check_headers(headers)):
            now = driver.enter()
            waiting = self._session.sender.publish_with_headers(topic, data, now, written)
            driver.flush_soon()
        elif driver.due_on == get_ident() and driver.is_running():
            waiting = self._session.publish(topic, data, driver.now)
        else:
            waiting = self._session.publish(topic, data, driver.enter())
            driver.flush_soon()
        if waiting > HIGH_WATER:
            await self._until_there_is_room()

    @locked
    async def publish_to_id(
        self, client_id: str, data: Any, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a direct message to the client, or server, of that id. Raises as ``publish``.

        If nobody has the id, ``on_error`` gets the server's error. To learn the outcome, use
        ``publish_to_id_with_ack``.
        """
        now = self._driver.enter()
        self._session.publish_to_id(client_id, data, now, check_headers(headers))
        await self._sent()

    @locked
    async def publish_to_server(self, addr: str, data: Any, secure: bool = False) -> None:
        """Ask the server to send a message to another server (spec, section 7).

        ``addr`` is ``host:port[/path][::proxied-address]``. If the payload is an object with a
        ``topic``, the other server publishes its ``data`` there. ``on_error`` gets a failure.
        Raises as ``publish``.
        """
        now = self._driver.enter()
        self._session.publish_to_server(addr, data, secure, now)
        await self._sent()

    @locked
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
        message_id: str = "",
    ) -> Ack[Any]:
        """Publish, and gather the acks of the subscribers: see :class:`kps.Ack`.

        The subscribers have ``timeout`` seconds to answer, but no more than the server's
        ``max_ack_timeout``, by default 300: what is longer ends then. Raises as ``publish``; the
        offline queue does not apply.

        Each id of ``expect`` that is not among them has the outcome ``absent``. Each group of the
        topic is one more receiver: one of its members handles the message, and its outcome is a
        :class:`kps.GroupResponse`. Each name of ``expect_groups`` without a group has the outcome
        ``no member``. With a ``key`` a group gives messages with the same key to the same member,
        as long as its members are the same. A message whose member is gone goes to another one, and
        up to ``retry`` times one whose member fails.

        A message with a ``message_id``, which no other message of this client id has, is handled
        once, however often it is sent. If the connection ends before the answer, the client sends
        it again as soon as it is connected, within the ``timeout``, and goes on waiting. Only if
        the message might then be handled twice (the server was restarted, or has forgotten the
        id), :class:`kps.ConnectionLost` is raised as without an id. The program may send it
        again too, within the server's ``message_id_window``: it gets the answer of the first.

        A server that does not know one of these raises :class:`kps.Unsupported`.
        """
        now = self._driver.enter()
        limits = self._settings.config.limits
        demands = check_demands(expect, expect_groups, key, retry, limits)
        return self._ack_for(
            self._session.asking.publish_with_ack(
                topic,
                data,
                timeout,
                now,
                demands,
                check_headers(headers),
                check_message_id(message_id, limits),
            )
        )

    @locked
    async def publish_to_id_with_ack(
        self,
        client_id: str,
        data: Any,
        timeout: float = 5.0,
        *,
        headers: Mapping[str, str] | None = None,
        message_id: str = "",
    ) -> Ack[Any]:
        """Like ``publish_with_ack``, to one client id. No response: nobody has the id."""
        now = self._driver.enter()
        name = check_message_id(message_id, self._settings.config.limits)
        return self._ack_for(
            self._session.asking.publish_to_id_with_ack(
                client_id, data, timeout, now, check_headers(headers), name
            )
        )

    async def request(
        self,
        topic: str,
        data: Any,
        timeout: float = 5.0,
        *,
        key: str = "",
        retry: int = 0,
        headers: Mapping[str, str] | None = None,
        message_id: str = "",
    ) -> Any:
        """Ask the subscribers of a topic, and return the first result.

        That is what a callback of one of them has returned; the others are not waited for. If all
        fail, it raises :class:`kps.RequestFailed` with the errors, or :class:`kps.RequestTimeout`
        if all of them are silent for ``timeout`` seconds; :class:`kps.NobodyThere` if the topic has
        no subscriber, :class:`kps.ConnectionLost` when the connection ends (with a ``message_id``,
        only if the answer cannot be had any more); and it raises as ``publish_with_ack``, which
        tells what the options mean. From a subscriber on level 1 the result is ``None``.
        """
        ack = await self.publish_with_ack(
            topic, data, timeout, key=key, retry=retry, headers=headers, message_id=message_id
        )
        return await self._result_of(ack, topic)

    async def request_to_id(
        self,
        client_id: str,
        data: Any,
        timeout: float = 5.0,
        *,
        headers: Mapping[str, str] | None = None,
        message_id: str = "",
    ) -> Any:
        """Ask the client, or server, of an id; return its result. Raises as ``request``."""
        ack = await self.publish_to_id_with_ack(
            client_id, data, timeout, headers=headers, message_id=message_id
        )
        return await self._result_of(ack, client_id)

    @locked
    async def flush(self) -> None:
        """Wait until the server has handled all messages sent before.

        Raises :class:`kps.NotConnected`, :class:`kps.ConnectionLost`,
        :class:`kps.RequestTimeout`, or :class:`kps.ServerError` when the server refuses the
        question itself.
        """
        if self._session.backlog > HIGH_WATER:
            await self._until_there_is_room()
        now = self._driver.enter()
        await self._wait_for(self._session.asking.barrier(now))

    @locked
    async def publish_with_receipt(
        self,
        topic: str,
        data: Any,
        *,
        headers: Mapping[str, str] | None = None,
        message_id: str = "",
    ) -> Receipt | None:
        """Publish, wait until the server has delivered the message, and return to how many.

        That is the number of subscribers whose queues had room, a whole number with an attribute
        ``degraded``; only ``publish_with_ack`` tells whether they handled it. ``None`` from a
        server on level 1, which does not tell; there ``on_error`` gets a refusal of the message.

        A message with a ``message_id`` is handled once, also when it is sent again: see
        ``publish_with_ack``. The client does so by itself when the connection ends before the
        answer.

        Raises as ``publish`` (the offline queue does not apply), :class:`kps.ConnectionLost`,
        :class:`kps.RequestTimeout`, :class:`kps.ServerError` when the server refuses it.
        """
        now = self._driver.enter()
        barrier = self._session.asking.publish_with_receipt(
            topic,
            data,
            now,
            check_headers(headers),
            check_message_id(message_id, self._settings.config.limits),
        )
        await self._wait_for(barrier)
        return barrier.receipt

    @locked
    async def history(self, topic: str, since: Position | None = None, limit: int = 100) -> Past:
        """Return messages of a topic with history: those behind ``since``, or else the latest.

        There are up to ``limit`` of them, the oldest first. Raises :class:`kps.ServerError` with
        the code ``no_history`` for a topic without history, or if the client may not subscribe to
        it; :class:`kps.Unsupported`, :class:`kps.NotConnected`, :class:`kps.ConnectionLost`,
        :class:`kps.RequestTimeout`, :class:`kps.InvalidArgument`.
        """
        check_start(topic, since, 0)
        check_limit(limit)
        messages: list[Message] = []
        start, place = Start(since, limit), Position("", 0)
        is_whole, lost = True, None
        while True:
            question = self._session.past.ask(topic, start, self._driver.enter())
            await self._wait_for(question)
            standing, came = question.standing, question.messages
            if messages and standing.epoch != place.epoch:
                is_whole, lost = False, None
                break  # they were forgotten meanwhile, and what comes now is something else
            if standing.recovered is False:
                lost = standing.lost if is_whole else None
                is_whole = False
            place = Position(standing.epoch, standing.offset)
            messages += came
            if came:
                place = came[-1].position or place
            if not came or len(messages) >= limit or len(came) >= standing.coming:
                break
            start = Start(place, limit - len(messages))
        return Past(messages, place, is_whole, lost)

    @locked
    async def presence(self, topic: str) -> Presence:
        """Ask who is subscribed to a topic (not to patterns that have it).

        Raises :class:`kps.ServerError` with the code ``forbidden`` if the client lacks the
        permission ``presence`` or ``subscribe``; :class:`kps.Unsupported`,
        :class:`kps.NotConnected`, :class:`kps.ConnectionLost`, :class:`kps.RequestTimeout`,
        :class:`kps.InvalidArgument`.
        """
        question = self._session.members.ask(topic, self._driver.enter())
        await self._wait_for(question)
        if question.presence is None:  # the server has answered something else
            raise RequestTimeout("the server did not tell who is subscribed")
        return question.presence

    @locked
    async def _send_to_server(self, to: str, proxied: str, origin: str, data: Any) -> list[str]:
        """Send a message as a server to another server; return the errors of that server."""
        now = self._driver.enter()
        self._session.send_to_server(to, proxied, origin, data, now)
        barrier = self._session.asking.barrier(now)
        await self._wait_for(barrier)
        return barrier.refusals

    async def _wait_for(self, barrier: Barrier) -> None:
        self._send_question(len(self._waiting))
        try:
            await self._in_time(
                barrier,
                lambda: barrier.passed or barrier.error is not None,
                "the server did not answer in time",
            )
        finally:
            self._session.asking.forget(barrier)
        if barrier.error is not None:
            raise copy(barrier.error) from None

    async def _sent(self) -> None:
        self._driver.flush_soon()
        session = self._session
        if session.backlog > HIGH_WATER and not session.calls.is_under_way:
            await self._until_there_is_room()

    async def _until_there_is_room(self) -> None:
        """Wait until the queue has drained below the high-water mark."""
        session, driver, connects = self._session, self._driver, self._connects
        if not session.ready or driver.dispatcher.is_inline_here:
            return  # the message is in the offline queue, or the caller must not wait
        driver.wanting_room += 1
        try:
            await driver.news.until(
                lambda: (
                    session.backlog <= HIGH_WATER or not session.ready or self._connects != connects
                )
            )
        finally:
            driver.wanting_room -= 1
        if session.ready and self._connects == connects:
            return
        self._raise_if_ended()
        if driver.is_closing:
            raise ClientClosed("the client was closed while the message waited")
        if not self._settings.config.offline_messages:
            raise ConnectionLost("the connection ended while the message waited to be written")

    async def _in_time(self, subject: object, condition: Callable[[], bool], late: str) -> None:
        """Wait for an answer of the server on a subject. Raises :class:`kps.RequestTimeout`."""
        news = self._driver.new_news()
        waiting = self._waiting.setdefault(subject, [])
        waiting.append(news)
        try:
            if not await news.until(condition, self._settings.request_timeout):
                raise RequestTimeout(late)
        finally:
            waiting.remove(news)
            if not waiting:
                self._waiting.pop(subject, None)

    def _tell(self, subject: object) -> None:
        """Wake the callers that wait for an answer on a subject."""
        for news in self._waiting.get(subject, ()):
            news.announce()

    def _tell_all(self) -> None:
        """Wake all callers that wait."""
        self._driver.news.announce()
        for subject in self._waiting:
            self._tell(subject)

    def _raise_if_ended(self) -> None:
        ended = self._session.ended
        if ended is not None:
            # A copy, because a traceback holds on to everything that its frames refer to.
            raise copy(ended.error) or ClientClosed("the client was closed") from None
