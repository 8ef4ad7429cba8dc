"""What the program that runs a server says on the bus, and hears."""

from collections.abc import Mapping, Sequence
from threading import get_ident
from typing import Any

from kps.errors import ConnectFailed, InvalidArgument
from kps.io_asyncio.ack import Ack
from kps.io_asyncio.locked import locked
from kps.io_asyncio.participant import Participant
from kps.io_asyncio.relay import Relays
from kps.io_asyncio.runtime import stopped
from kps.io_asyncio.server_driver import ServerDriver
from kps.io_common.server_options import ServerSettings
from kps.protocol.bus.ack_handle import AckHandle
from kps.protocol.bus.given import LONGEST_ADDRESS, check_demands, check_headers, check_text
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.bus.members import Presence
from kps.protocol.bus.message import Message
from kps.protocol.bus.past import Past
from kps.protocol.bus.subscriptions import Subscriptions, Wanted
from kps.protocol.dialect.address import RelayTarget, origin_of
from kps.protocol.dialect.places import Position
from kps.protocol.limits import check_switch
from kps.protocol.patterns import Key
from kps.protocol.server.events import ConnectedClient
from kps.protocol.server.hub import Hub


class ServerProgram(Participant):
    """The part of a server that takes part in the bus."""

    _driver: ServerDriver
    _hub: Hub
    _relays: Relays
    _settings: ServerSettings
    _address: str

    def __init__(self) -> None:
        super().__init__()
        self._is_stopped = False

    @locked
    async def publish(
        self, topic: str, data: Any, *, headers: Mapping[str, str] | None = None
    ) -> int:
        """Publish with the server's id as sender; return how many subscribers had room for it.

        A client counts once, and so does this program. In a cluster only those of this node count,
        and none on a topic with history, whose messages another node may number: there
        ``publish_with_ack`` tells who has it. Raises :class:`kps.InvalidArgument` for an empty
        topic or a payload that is not JSON, :class:`kps.InvalidState` if the server has not
        started, and :class:`kps.ServerStopped` if it has stopped.
        """
        driver = self._driver
        if headers is None and driver.due_on == get_ident() and driver.is_running():
            return self._hub.publish(topic, data, driver.now)
        now = driver.enter()
        count = self._hub.publish(topic, data, now, check_headers(headers))
        driver.flush_soon()
        return count

    @locked
    async def publish_to_id(
        self, client_id: str, data: Any, *, headers: Mapping[str, str] | None = None
    ) -> bool:
        """Send a direct message; return ``False`` if nobody has the id. Raises as ``publish``."""
        now = self._driver.enter()
        found = self._hub.publish_to_id(client_id, data, now, check_headers(headers))
        self._driver.progress()
        return found

    async def publish_to_server(self, addr: str, data: Any, secure: bool = False) -> None:
        """Send a message to another server (spec, section 7), and wait until it has handled it.

        Raises :class:`kps.ConnectFailed` if that fails, :class:`kps.InvalidArgument` for a
        bad address or a payload that is not JSON.
        """
        self._driver.enter()
        target = RelayTarget.parse(check_text("an address", addr, LONGEST_ADDRESS))
        check_switch("secure", secure)
        news = self._driver.new_news()
        outcome: list[str | None] = []

        def done(error: str | None) -> None:
            outcome.append(error)
            news.announce()

        await news.until(lambda: True)  # raises where nobody may wait, before anything is sent
        self._relays.send(target, self._origin(), data, secure=secure, done=done)
        await news.until(lambda: bool(outcome))
        if outcome[0] is not None:
            raise ConnectFailed(f"failed to relay to server: {outcome[0]}")

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
    ) -> Ack[Any]:
        """Publish, and gather the acks of the subscribers: see :class:`kps.Ack`.

        They have ``timeout`` seconds to answer. The options are those of a client: see
        :class:`kps.Client`. Raises as ``publish``.
        """
        now = self._driver.enter()
        demands = check_demands(expect, expect_groups, key, retry, self._hub.limits)
        return self._ack_for(
            self._hub.publish_with_ack(topic, data, timeout, now, demands, check_headers(headers))
        )

    @locked
    async def publish_to_id_with_ack(
        self,
        client_id: str,
        data: Any,
        timeout: float = 5.0,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Ack[Any]:
        """Like ``publish_with_ack``, to one client id. No response: nobody has the id."""
        now = self._driver.enter()
        return self._ack_for(
            self._hub.publish_to_id_with_ack(client_id, data, timeout, now, check_headers(headers))
        )

    @locked
    def history(self, topic: str, since: Position | None = None, limit: int = 100) -> Past:
        """Return messages of a topic with history: those behind ``since``, or else the latest.

        There are up to ``limit`` of them, the oldest first. Raises :class:`kps.InvalidArgument`,
        also for a topic without history, and :class:`kps.InvalidState` before the start.
        """
        self._driver.enter()
        return self._hub.local.history(topic, since, limit)

    @locked
    def presence(self, topic: str) -> Presence:
        """Tell who is subscribed to a topic (not to patterns that have it), this program included.

        In a cluster these are members of this node: to ``request("__kps/topic", {"topic": …})``
        all nodes answer (docs/monitoring.md). Raises :class:`kps.InvalidArgument` for a bad topic,
        :class:`kps.InvalidState` before the start.
        """
        self._driver.enter()
        return self._hub.local.presence(topic)

    @locked
    def clients(self) -> list[ConnectedClient]:
        """Describe all registered clients, in a cluster those of this node.

        To ``request("__kps/clients", {})`` all nodes answer (docs/monitoring.md). Raises
        :class:`kps.InvalidState` before the start.
        """
        now = self._driver.enter()
        return self._hub.directory.all(now)

    async def disconnect(self, client_id: str, reason: str = "") -> bool:
        """End the connection of a client, which does not return by itself (close code 4003).

        Return ``False`` if nobody has the id. The client gets up to 123 bytes of the reason. It may
        connect again at any time: to keep it out, refuse it in ``on_connect`` or ``auth``. In a
        cluster the client may be at any node: this waits up to a second for other nodes, and then
        returns ``False`` if none has told that it had the client. Raises
        :class:`kps.InvalidArgument` for a bad id or reason, and :class:`kps.ServerStopped` if the
        server stops meanwhile.
        """
        reason = check_text("a reason", reason or "disconnected by the server", 1024)
        outcome: list[bool] = []
        self._dismiss(client_id, reason, outcome)
        if not outcome:
            await self._driver.news.until(lambda: bool(outcome) or self._is_stopped)
        if not outcome:
            stopped()
        return outcome[0]

    @locked
    def _dismiss(self, client_id: str, reason: str, outcome: list[bool]) -> None:
        """Begin to disconnect a client; ``outcome`` gets whether somebody had the id."""
        now = self._driver.enter()

        def done(was_there: bool) -> None:
            outcome.append(was_there)
            self._driver.news.announce()

        self._hub.directory.dismiss(client_id, reason, now, done)
        self._driver.progress()

    @locked
    def count_clients(self) -> int:
        """Count the registered clients, in a cluster those of this node.

        The ``found`` of ``request("__kps/clients", {})`` counts those of all nodes. Raises
        :class:`kps.InvalidState` before the start.
        """
        self._driver.enter()
        return len(self._hub.clients)

    @locked
    def count_subscribers(self, topic: str) -> tuple[int, int, int]:
        """Count the subscriptions to a topic: of this program, of clients, and together.

        In a cluster they are those of this node: to ``request("__kps/topic", {"topic": …})`` all
        nodes answer (docs/monitoring.md). Raises :class:`kps.InvalidArgument` for a bad topic,
        :class:`kps.InvalidState` before the start.
        """
        self._driver.enter()
        return self._hub.count_subscribers(topic)

    # -- called by subscriptions and acks -----------------------------------------------------

    @property
    def _subscriptions(self) -> Subscriptions:
        return self._hub.local.subscriptions

    def _open_mailbox(self, key: Key, now: float, wanted: Wanted) -> Mailbox:
        if wanted.start is not None:
            raise InvalidArgument("a server's own program reads the past with 'history'")
        if wanted.observer is not None:
            raise InvalidArgument("a server's own program has 'presence', and hooks that tell it")
        return self._hub.local.subscribe(key, wanted.wish.info, wanted.concurrency)

    def _close_mailbox(self, mailbox: Mailbox) -> None:
        self._hub.local.unsubscribe(mailbox)

    async def _confirmed(self, mailbox: Mailbox) -> None:
        """Return at once: within the process a subscription is live immediately."""

    def _settle_in_core(self, message: Message[Any], error: str | None, result: Any) -> None:
        self._hub.local.settle(message, error, self._driver.clock(), result)

    def _end_of_messages(self) -> Exception | None:
        return StopAsyncIteration() if self._is_stopped else None

    async def _ack_status(self, handle: AckHandle) -> dict[str, bool]:
        self._driver.enter()
        return self._hub.ack_status(handle)

    def _cancel_ack(self, handle: AckHandle) -> None:
        if not handle.finished:
            self._driver.enter()
            self._hub.cancel_ack(handle)
            self._driver.progress()

    def _origin(self, client_id: str = "") -> str:
        return origin_of(
            self._address,
            self._settings.config.path,
            secure=self._settings.certificates.context is not None,
            client_id=client_id,
        )
