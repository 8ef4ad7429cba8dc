"""Sends the messages of a client on its connection, keeps them offline, or refuses them."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from kps.errors import KPSError, MessageTooLarge, QueueFull
from kps.protocol.bus.given import check_topic
from kps.protocol.client.batch import BatchEntry, messages_in
from kps.protocol.client.events import ErrorReceived
from kps.protocol.client.offline import OfflineQueue
from kps.protocol.client.outgoing import Outgoing
from kps.protocol.client.state import ClientState
from kps.protocol.dialect import level1
from kps.protocol.dialect.client import LEVEL_1, ClientLevel1
from kps.protocol.dialect.codes import HEADERS, MESSAGE_IDS
from kps.protocol.dialect.envelope import Fields
from kps.protocol.dialect.outcome import as_json
from kps.protocol.limits import Overflow
from kps.protocol.wire.outbox import Entry

_CLOSE = Overflow.CLOSE


class Sender:
    """Sends messages of the program and of the protocol."""

    def __init__(self, state: ClientState) -> None:
        self._state = state
        self._offline = OfflineQueue(state.config)

    @property
    def dialect(self) -> ClientLevel1:
        """The dialect of the current connection."""
        link = self._state.link
        return link.outgoing.dialect if link is not None else LEVEL_1

    @property
    def backlog(self) -> int:
        """Bytes that are pending."""
        link = self._state.link
        return link.outgoing.pending_bytes if link is not None else self._offline.size

    def send_or_refuse(self, message: bytes, *, droppable: bool = True) -> None:
        """Send a message of the program.

        Raises ``NotConnected``, ``MessageTooLarge``, and ``QueueFull`` if no policy makes room.
        """
        self._send_on(self._state.require_link().outgoing, message, droppable=droppable)

    def send_or_keep(self, message: bytes) -> None:
        """Send a message of the program, or keep it offline. Raises the same."""
        state = self._state
        link = state.link
        if link is not None and link.registered and not state.is_closing:
            self._send_on(link.outgoing, message, droppable=True)
        elif state.is_over or not state.config.offline_messages:
            state.require_link()  # raises the reason
        elif not self._offline.keep(message):
            raise QueueFull("not connected, and the offline queue is full")

    def headers_field(self, headers: bytes) -> Fields:
        """Return the field with headers, which are JSON; nothing if they are empty.

        Raises ``Unsupported``. What is kept offline goes with them whatever the next server knows.
        """
        if headers and self._state.ready:
            self._state.require_feature(HEADERS)
        return {"headers": as_json(headers)} if headers else {}

    def more_fields(self, headers: bytes, message_id: str) -> Fields:
        """Return the fields of a message with headers or an id. Raises ``Unsupported``."""
        more = self.headers_field(headers)
        if message_id:
            self._state.require_link()
            self._state.require_feature(MESSAGE_IDS)
            more["message_id"] = message_id
        return more

    def publish_with_headers(self, topic: object, data: Any, now: float, headers: bytes) -> int:
        """Publish with headers. Raises as ``ClientSession.publish``, and ``Unsupported``."""
        state = self._state
        topic = check_topic(topic, state.config.limits)
        message = level1.publish(topic, state.id, data, self.headers_field(headers))
        self.send_in_order(message, now)
        return self.backlog

    def send_in_order(self, message: bytes, now: float) -> None:
        """Send or keep a message of the program, behind a call that is under way."""
        calls = self._state.calls
        if calls.is_under_way:
            self.send_soon(partial(self.send_or_keep, message))
            return
        calls.is_under_way = True
        try:
            self._state.now = now
            self.send_or_keep(message)
        finally:
            try:
                if calls.waiting:
                    calls.end()
            finally:
                calls.is_under_way = False

    def send_soon(self, send: Callable[[], object]) -> None:
        """Call ``send`` after the call that is under way. Raises what is certain by now."""
        state = self._state
        if state.is_over or not state.config.offline_messages:
            state.require_link()

        def try_it() -> None:
            try:
                send()
            except KPSError as error:
                state.dropped += 1
                reason = f"a message from within another call is dropped: {error}"
                state.events.append(ErrorReceived(reason, ""))

        state.calls.waiting.append(try_it)

    def _send_on(self, outgoing: Outgoing, message: bytes, *, droppable: bool) -> None:
        outgoing.check_size(message)
        may_drop = droppable and self._state.config.limits.overflow is not _CLOSE
        if not may_drop and not outgoing.has_room(len(message)):
            raise QueueFull("the outgoing queue is full: the network is slower than the program")
        if droppable:
            outgoing.send_droppable(message)
        else:
            outgoing.send(message)

    def send_kept(self) -> None:
        """Send the kept messages on a new connection.

        A message that is too large for this server is dropped and reported.
        """
        state = self._state
        outgoing = state.require_link().outgoing
        for message in self._offline.take_all():
            try:
                outgoing.check_size(message)
            except MessageTooLarge as error:
                state.dropped += 1
                state.events.append(
                    ErrorReceived(f"a message that was kept is dropped: {error}", "")
                )
            else:
                outgoing.send_kept(message)

    def keep(self, unsent: Iterable[Entry]) -> int:
        """Keep unwritten publications offline; return how many messages had no room."""
        lost = 0
        keeps = self._state.config.offline_messages and not self._state.is_over
        for entry in unsent:
            if not keeps:
                lost += entry.messages
                continue
            for message in self._messages_in(entry):
                lost += not self._offline.keep(message)
        return lost

    def give_up(self) -> int:
        """Drop the kept messages; return their number."""
        return len(self._offline.take_all())

    def _messages_in(self, entry: Entry) -> Iterator[bytes]:
        """Return the messages in an entry, in a form that each level understands."""
        if isinstance(entry, BatchEntry):
            topic, payloads = entry.publications()
            for data in payloads:
                yield level1.publish(topic, self._state.id, data)
        else:
            yield from messages_in(entry)
