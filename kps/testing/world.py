"""What programs live in while their clients are on a bus in memory: its network, time, and faults.

One lock is around everything here. It is never held while a client's own lock is waited for: a
client may hold that while it calls in here.
"""

import errno
import heapq
import threading
import time
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any, Protocol

from kps.io_common.hooks import Callback
from kps.io_common.logs import notice_failed, report_failure
from kps.io_common.server_logs import hook_failed
from kps.io_common.server_options import ServerSettings
from kps.io_common.verdicts import permit_verdict, token_verdict, upgrade_verdict
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.patterns import Key
from kps.protocol.server.events import (
    ClientLeft,
    ConnectRequested,
    HubEvent,
    RelayRequested,
    SubscriptionRequested,
    TokenPresented,
    Unsubscribed,
    UpgradeRequested,
)
from kps.protocol.server.hub import Hub
from kps.protocol.wire.endpoint import Endpoint
from kps.testing.network import Link, Network
from kps.testing.recorded_hub import Record, RecordedHub

Span = float | tuple[float, float]
"""Seconds, or between how many and how many."""

# Seconds of the system's clock that are waited for a thread which has something to do. It may
# itself wait for something that comes later. Of the time between two looks at it, only so much
# counts, since a system that lets us wait for longer lets that thread wait too.
_PATIENCE = 1.0
_LOOK_COUNTS_MOST = 0.005


class Conditions(Protocol):
    """How well the network does."""

    reachable: bool
    latency: Span
    lifetime: Span | None


class Guest(Protocol):
    """A client on the bus, whatever its driver."""

    random: Random
    """Decides on its faults, once for each connection, and on its backoff."""

    @property
    def id(self) -> str:
        """The client's id."""

    @property
    def is_over(self) -> bool:
        """Whether it takes no more part in anything."""

    def next_deadline(self) -> float | None:
        """The next time that it waits for."""

    def look(self) -> None:
        """The time may have been moved: do, in the right thread, what is due."""

    def is_busy(self) -> bool:
        """Whether it has something to do at once."""


class World:
    """Moves bytes and time for the clients of one bus."""

    def __init__(self, network: "HookedNetwork", conditions: Conditions, seed: int) -> None:
        self.network = network
        self.clock = network.clock
        self.lock = threading.RLock()
        self.guests: list[Guest] = []
        self.activity = 0
        """Grows with whatever happens. While it does not, and nobody is busy, all is quiet."""
        self.is_closed = False
        self.subscriptions: list[tuple[Key, Callback, int]] = []
        """Of the test itself, which takes part as the server's program."""
        self._conditions = conditions
        self._seed = seed
        self._numbers = count(1)
        self._links: list[tuple[Guest, Link]] = []
        self._ends: list[tuple[float, int, Link]] = []  # a heap
        self._callbacks: dict[Mailbox, Callback] = {}
        self._is_running = False
        self._must_go_on = False
        # The activity since when nothing happened though somebody is busy, how long we have waited
        # for that, and when we looked last.
        self._busy_at = -1
        self._busy_for = 0.0
        self._looked = 0.0

    # -- clients ----------------------------------------------------------------------------

    def new_random(self) -> Random:
        """A generator for the next client: its own, so that no client changes another's luck."""
        return Random(f"{self._seed} {next(self._numbers)}")

    def enter(self, guest: Guest) -> None:
        """Let a client take part."""
        with self.lock:
            self.guests.append(guest)

    def connect(self, guest: Guest, endpoint: Endpoint) -> None:
        """Give a client a connection. Raises :class:`ConnectionRefusedError`."""
        with self.lock:
            conditions = self._conditions
            if self.is_closed or not conditions.reachable:
                raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
            link = self.network.attach(endpoint)
            luck = Random(guest.random.random())
            link.delay = lambda: _draw(conditions.latency, luck)
            self._links.append((guest, link))
            if conditions.lifetime is not None:
                ends = self.clock.now + _draw(conditions.lifetime, guest.random)
                heapq.heappush(self._ends, (ends, next(self._numbers), link))

    def links(self, ids: tuple[str, ...]) -> list[Link]:
        """The connections of some clients, or of all."""
        self._links = [(guest, link) for guest, link in self._links if link.alive]
        return [link for guest, link in self._links if not ids or guest.id in ids]

    # -- what happens at one moment -----------------------------------------------------------

    def run(self) -> None:
        """Move bytes until nothing moves any more."""
        with self.lock:
            self._must_go_on = True
            if self._is_running:
                return  # this is a hook or callback of the test, called below
            self._is_running = True
            try:
                while self._must_go_on:
                    self._must_go_on = False
                    self.network.run()
                    self._run_callbacks()
            finally:
                self._is_running = False

    def tick(self) -> None:
        """Do whatever is due now."""
        with self.lock:
            now = self.clock.now
            while self._ends and self._ends[0][0] <= now:
                heapq.heappop(self._ends)[2].cut()
            due = self.network.hub.next_deadline()
            if due is not None and due <= now:
                self.activity += 1
                self.network.hub.handle_timeout(now)
            for guest in [guest for guest in self.guests if guest.is_over]:
                self.guests.remove(guest)
                for owner, link in self._links:
                    if owner is guest:
                        link.cut()  # its event loop is gone
            self.run()
            guests = list(self.guests)
        for guest in guests:
            guest.look()

    def is_busy(self) -> bool:
        """Whether something is about to happen without time having to pass."""
        with self.lock:
            guests = list(self.guests)
        if not any(guest.is_busy() for guest in guests):
            return False
        now = time.monotonic()
        if self._busy_at != self.activity:
            self._busy_at, self._busy_for = self.activity, 0.0
        else:
            self._busy_for += min(now - self._looked, _LOOK_COUNTS_MOST)
        self._looked = now
        return self._busy_for <= _PATIENCE

    # -- time -------------------------------------------------------------------------------

    def next_stop(self) -> float | None:
        """The next time at which anything is due, later than now."""
        with self.lock:
            now = self.clock.now
            deadlines: list[Callable[[], float | None]] = [self.network.hub.next_deadline]
            deadlines += [link.next_deadline for link in self.network.links]
            stops = [deadline() for deadline in deadlines]
            stops += [ends for ends, _, link in self._ends if link.alive]
            guests = list(self.guests)
        stops += [guest.next_deadline() for guest in guests]
        return min((stop for stop in stops if stop is not None and stop > now), default=None)

    def move_to(self, when: float) -> None:
        """Set the clock, and do what is due then."""
        with self.lock:
            self.clock.now = max(self.clock.now, when)
        self.tick()

    # -- the test as the server's program -------------------------------------------------------

    def subscribe(self, key: Key, callback: Callback, concurrency: int) -> None:
        """Let a callback of the test handle a topic or pattern, here and on servers to come."""
        mailbox = self.network.hub.local.subscribe(key, None, concurrency)
        self._callbacks[mailbox] = callback
        self.subscriptions.append((key, callback, concurrency))

    def restart(self) -> None:
        """Have a new server."""
        self._callbacks.clear()
        subscriptions, self.subscriptions = self.subscriptions, []
        self.network.restart()
        for subscription in subscriptions:
            self.subscribe(*subscription)

    def _run_callbacks(self) -> None:
        hub = self.network.hub
        for mailbox in hub.local.subscriptions.take_ready():
            callback = self._callbacks.get(mailbox)
            for message in mailbox.take_all() if callback is not None else ():
                assert callback is not None
                self._must_go_on = True
                error: str | None = None
                result: Any = None
                try:
                    result = callback(message)
                except Exception as failure:
                    error = report_failure(failure, message.topic)
                hub.local.settle(message, error, self.clock.now, result)


class HookedNetwork(Network):
    """A network whose server remembers what was published, and asks the hooks of a test."""

    def __init__(self, settings: ServerSettings, *, seed: int, record: Record) -> None:
        self._record = record
        self._settings = settings
        super().__init__(settings.config, limits=settings.config.limits, seed=seed)

    def answer(self, event: HubEvent) -> bool:
        self.hub_events.clear()  # nobody asks for them
        hub, hooks, now = self.hub, self._settings, self.clock.now
        match event:
            case UpgradeRequested(session, request):
                hub.decide(
                    session, _ask(hooks.on_upgrade, upgrade_verdict, request, request.peer), now
                )
            case TokenPresented(session, token, peer):
                hub.judge(session, _ask(hooks.auth, token_verdict, token, peer), now)
            case ConnectRequested(session, client):
                verdict = _ask(hooks.on_connect, permit_verdict, client, client.address)
                hub.judge(session, verdict, now)
            case SubscriptionRequested(session, asked):
                verdict = _ask(hooks.on_subscribe, permit_verdict, asked, asked.client.address)
                hub.judge(session, verdict, now)
            case ClientLeft():
                _tell(hooks.on_disconnect, event)
            case Unsubscribed():
                _tell(hooks.on_unsubscribe, event)
            case RelayRequested(session, to):
                hub.relay_finished(session, to, "connection refused", now)
            case _:
                return False
        return True

    def _new_hub(self) -> Hub:
        return RecordedHub(
            self._config,
            new_id=lambda: f"client-{self.random.getrandbits(48):012x}",
            now=self.clock.now,
            record=self._record,
        )


def _ask(
    hook: Callable[[Any], object] | None,
    read: Callable[[object], object],
    subject: object,
    peer: str,
) -> object:
    assert hook is not None
    try:
        return read(hook(subject))
    except Exception as error:
        return hook_failed(peer, error)


def _tell(hook: Callable[[Any], object] | None, event: object) -> None:
    if hook is not None:
        try:
            hook(event)
        except Exception as error:
            notice_failed(error, hook)


def _draw(span: Span, random: Random) -> float:
    return random.uniform(*span) if isinstance(span, tuple) else span
