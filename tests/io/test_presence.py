"""Who is there, and what the program of a server decides about it, over real sockets."""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

import kps
from tests.io.harness import (
    PATIENCE,
    AnyDriver,
    Cable,
    Inbox,
    ThreadsDriver,
    eventually,
)

Connect = Callable[..., Any]
Make = Callable[[Callable[[Any], Any]], Any]

QUICK = kps.Backoff(first=0.01, longest=0.05)
GRACE = 0.3
LIMITS = kps.ServerLimits(presence_grace=GRACE)


@pytest.fixture
def server(servers: AnyDriver) -> Any:
    """A server on which those who are lost are missed soon."""
    return servers.server(id="server", limits=LIMITS)


@pytest.fixture(params=["function", "coroutine"])
def made(request: pytest.FixtureRequest, servers: AnyDriver) -> Make:
    """Makes a hook of a plain function: that itself, or a coroutine function."""
    if request.param == "function":
        return lambda hook: hook
    if isinstance(servers, ThreadsDriver):
        pytest.skip("on threads all functions are plain")

    def make(hook: Callable[[Any], Any]) -> Any:
        async def coroutine(subject: Any) -> Any:
            await asyncio.sleep(0)
            return hook(subject)

        return coroutine

    return make


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged with an exception."""
    return [record.getMessage() for record in list(caplog.records) if record.exc_info]


class Seen(Inbox):
    """A callback for presence."""

    def until(self, *names: str) -> kps.Presence:
        """The next presence in which exactly these are members."""
        while True:
            presence = self.get()
            assert isinstance(presence, kps.Presence)
            if presence.members is not None and presence.members.keys() == set(names):
                return presence


# -- who is there --------------------------------------------------------------------------


def test_an_observer_sees_who_comes_and_goes(connect: Connect, server: Any) -> None:
    seen = Seen()
    watch = connect("watch")
    watch.subscribe("room", Inbox(), presence=seen)
    first = seen.get()
    assert (first.topic, first.members, first.joined) == ("room", {"watch": None}, {"watch": None})
    alice = connect("alice")
    subscription = alice.subscribe("room", Inbox(), info={"name": "Alice"})
    there = seen.until("watch", "alice")
    assert (there.joined, there.count) == ({"alice": {"name": "Alice"}}, 2)
    assert there.version > first.version
    alice.subscribe("room", Inbox(), info={"name": "Al"})
    assert seen.get().updated == {"alice": {"name": "Al"}}
    server.subscribe("room", lambda message: None, info={"host": True})
    assert seen.until("watch", "alice", "server").joined == {"server": {"host": True}}
    for client in (watch, alice):
        asked = client.presence("room")
        assert asked.members == {"watch": None, "alice": {"name": "Al"}, "server": {"host": True}}
        assert (asked.joined, asked.left) == ({}, {})
    assert server.presence("room").members == asked.members
    subscription.unsubscribe()
    assert alice.presence("room").count == 3, "the other subscription goes on"
    alice.unsubscribe("room")
    assert seen.until("watch", "server").left == {"alice": "unsubscribed"}
    connect("bob").subscribe("room", Inbox())
    assert seen.until("watch", "server", "bob").joined == {"bob": None}


def test_asking_about_a_topic_that_nobody_observes(connect: Connect, server: Any) -> None:
    client = connect("client")
    asked = client.presence("empty")
    assert (asked.members, asked.count, asked.version) == ({}, 0, None)
    client.subscribe("room", Inbox())
    assert client.presence("room").members == {"client": None}
    assert server.presence("empty").count == 0


@pytest.mark.parametrize("way", ["close", "disconnect", "cut"])
def test_how_somebody_left(
    connect: Connect, clients: AnyDriver, server: Any, cable: Cable, way: str
) -> None:
    seen = Seen()
    connect("watch").subscribe("room", Inbox(), presence=seen)
    client = clients.client(cable.address, id="client", reconnect=False)
    client.subscribe("room", Inbox())
    seen.until("watch", "client")
    if way == "close":
        client.close()
    elif way == "disconnect":
        server.disconnect("client")
    else:
        cable.cut()
    expected = "lost" if way == "cut" else "closed"
    assert seen.until("watch").left == {"client": expected}


def test_who_comes_back_in_time_was_never_away(servers: AnyDriver, clients: AnyDriver) -> None:
    server = servers.server(limits=kps.ServerLimits(presence_grace=PATIENCE))
    cable = Cable(server.address)
    try:
        seen, connected = Seen(), Inbox()
        watch = clients.client(server.address, id="watch")
        watch.subscribe("room", Inbox(), presence=seen)
        client = clients.client(cable.address, id="client", reconnect=QUICK, on_connect=connected)
        connected.get()
        client.subscribe("room", Inbox(), info={"x": 1})
        seen.until("watch", "client")
        for _ in range(3):
            cable.cut()
            connected.get()
            eventually(lambda: server.count_subscribers("room")[1] == 2, "it is back")
        clients.client(server.address, id="last").subscribe("room", Inbox())
        after = seen.get()
        assert (after.joined, after.left, after.updated) == ({"last": None}, {}, {})
        assert after.members["client"] == {"x": 1}
    finally:
        cable.close()


def test_an_observer_that_comes_back_is_told_what_has_changed(
    connect: Connect, clients: AnyDriver, cable: Cable
) -> None:
    seen, connected = Seen(), Inbox()
    watch = clients.client(cable.address, id="watch", reconnect=QUICK, on_connect=connected)
    watch.subscribe("room", Inbox(), presence=seen, info={"me": 1})
    connected.get()
    gone, stays = connect("gone"), connect("stays")
    gone.subscribe("room", Inbox())
    stays.subscribe("room", Inbox(), info={"x": 1})
    seen.until("watch", "gone", "stays")
    cable.refuses = True
    cable.cut()
    gone.close()
    stays.subscribe("room", Inbox(), info={"x": 2})
    connect("new").subscribe("room", Inbox())
    cable.refuses = False
    connected.get()
    now = seen.until("watch", "stays", "new")
    assert now.members == {"watch": {"me": 1}, "stays": {"x": 2}, "new": None}
    assert now.joined == {"new": None}
    assert now.left == {"gone": "unknown"}
    assert now.updated == {"stays": {"x": 2}}


def test_a_presence_callback_may_be_a_coroutine_function(
    connect: Connect, clients: AnyDriver
) -> None:
    seen = Seen()

    async def callback(presence: kps.Presence) -> None:
        await asyncio.sleep(0)
        seen(presence)

    client = connect("client")
    if isinstance(clients, ThreadsDriver):
        with pytest.raises(kps.InvalidArgument, match="presence"):
            client.subscribe("room", Inbox(), presence=callback)
    else:
        client.subscribe("room", Inbox(), presence=callback)
        seen.until("client")


def test_a_presence_callback_that_fails_ends_nothing(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Seen()

    def callback(presence: kps.Presence) -> None:
        seen(presence)
        raise ValueError("not this way")

    connect("watch").subscribe("room", Inbox(), presence=callback)
    seen.until("watch")
    connect("other").subscribe("room", Inbox())
    seen.until("watch", "other")
    eventually(lambda: len(failures(caplog)) == 2, "both are logged")
    assert all("a callback failed" in line for line in failures(caplog))


def test_several_observers_of_one_client(connect: Connect) -> None:
    """Each is called. When the last has gone, the messages go on."""
    first, second, messages = Seen(), Seen(), Inbox()
    watch, other = connect("watch"), connect("other")
    watch.subscribe("room", messages)
    one = watch.subscribe("room", Inbox(), presence=first)
    two = watch.subscribe("room", Inbox(), presence=second)
    other.subscribe("room", Inbox())
    for seen in (first, second):
        seen.until("watch", "other")
    one.unsubscribe()
    other.unsubscribe("room")
    second.until("watch")
    two.unsubscribe()
    watch.flush()
    other.subscribe("room", Inbox())
    other.publish("room", 1)
    assert messages.data() == 1
    assert watch.presence("room").version is None, "nobody observes it"
    assert first.is_empty()
    assert second.is_empty()


def test_an_ack_tells_who_was_there(connect: Connect, server: Any) -> None:
    seen = Seen()
    watch = connect("watch")
    watch.subscribe("room", lambda message: None, presence=seen)
    version = seen.until("watch").version
    ack = watch.publish_with_ack("room", 1)
    assert list(ack.wait()) == ["watch"]
    assert ack.presence == version
    by_server = server.publish_with_ack("room", 1)
    by_server.wait()
    assert by_server.presence == version
    nobody = watch.publish_with_ack("elsewhere", 1)
    nobody.wait()
    assert nobody.presence is None


def test_what_a_client_may_not_see(servers: AnyDriver, clients: AnyDriver) -> None:
    permissions = kps.Permissions(presence=["open"], subscribe=["open", "room"])
    server = servers.server(permissions=permissions)
    client = clients.client(server.address, id="client")
    messages = Inbox()
    client.subscribe("room", messages)
    attempts: list[Callable[[], Any]] = [
        lambda: client.presence("room"),
        lambda: client.presence("closed"),
        lambda: client.subscribe("room", Inbox(), presence=Seen()),
    ]
    for attempt in attempts:
        with pytest.raises(kps.ServerError) as refusal:
            attempt()
        assert refusal.value.code == "forbidden"
    assert client.presence("open").count == 0
    client.publish("room", 1)
    assert messages.data() == 1, "the other subscription goes on"


def test_an_info_that_is_too_large_changes_nothing(connect: Connect, server: Any) -> None:
    client = connect("client")
    seen = Seen()
    client.subscribe("room", Inbox(), presence=seen, info={"x": 1})
    with pytest.raises(kps.ServerError) as refusal:
        client.subscribe("room", Inbox(), info={"x": "y" * 5000})
    assert refusal.value.code == "bad_request"
    with pytest.raises(kps.ServerError):
        client.subscribe("hall", Inbox(), info={"x": "y" * 5000})
    assert client.presence("room").members == {"client": {"x": 1}}
    assert client.presence("hall").count == 0
    connect("other").subscribe("room", Inbox())
    assert seen.until("client", "other").left == {}


def test_too_many_to_be_named(servers: AnyDriver, clients: AnyDriver) -> None:
    server = servers.server(limits=kps.ServerLimits(max_members=2))
    seen = Seen()
    watch = clients.client(server.address, id="watch")
    watch.subscribe("room", Inbox(), presence=seen)
    others = [clients.client(server.address, id=f"c{number}") for number in range(3)]
    for other in others:
        other.subscribe("room", Inbox())
    while (presence := seen.get()).count < 4:
        pass
    assert presence.members is None
    assert watch.presence("room").members is None
    for other in others:
        other.close()
    assert seen.until("watch").joined == {"watch": None}


def test_a_level_1_server_has_no_presence(clients: AnyDriver, servers: AnyDriver) -> None:
    server = servers.server(level=1)
    client = clients.client(server.address, id="client")
    attempts: list[Callable[[], Any]] = [
        lambda: client.presence("room"),
        lambda: client.subscribe("room", Inbox(), presence=Seen()),
        lambda: client.subscribe("room", Inbox(), info={"x": 1}),
    ]
    for attempt in attempts:
        with pytest.raises(kps.Unsupported, match="does not have presence"):
            attempt()
    assert server.count_subscribers("room") == (0, 0, 0)
    client.subscribe("room", Inbox())
    assert server.presence("room").members == {"client": None}


def test_misuse(connect: Connect, server: Any) -> None:
    client = connect("client")
    wrong: Any = 5
    attempts: list[Callable[[], Any]] = [
        lambda: client.subscribe(kps.Pattern("r*"), Inbox(), presence=Seen()),
        lambda: client.subscribe(kps.Pattern("r*"), Inbox(), info={}),
        lambda: client.subscribe("room", Inbox(), presence=wrong),
        lambda: client.subscribe("room", Inbox(), info=wrong),
        lambda: client.subscribe("room", Inbox(), info={"x": object()}),
        lambda: client.presence(""),
        lambda: client.presence(wrong),
        lambda: server.presence(""),
        lambda: server.subscribe("room", Inbox(), presence=Seen()),
        lambda: server.disconnect("client", wrong),
    ]
    for attempt in attempts:
        with pytest.raises(kps.InvalidArgument):
            attempt()
    assert server.count_subscribers("room") == (0, 0, 0)
    assert client.presence("room").count == 0


# -- the hooks of a server -----------------------------------------------------------------


def test_who_may_connect(
    servers: AnyDriver, clients: AnyDriver, made: Make, caplog: pytest.LogCaptureFixture
) -> None:
    asked = Inbox()

    def on_connect(client: kps.ConnectedClient) -> bool | None:
        asked(client)
        if client.id == "banned":
            raise kps.Refused("you know why")
        return False if client.id == "nobody" else None

    server = servers.server(on_connect=made(on_connect))
    for name, text in (("banned", "you know why"), ("nobody", "the server refused this")):
        with pytest.raises(kps.ServerError, match=text):
            clients.client(server.address, id=name)
        assert asked.get().id == name
    client = clients.client(server.address, id="alice")
    told = asked.get()
    assert isinstance(told, kps.ConnectedClient)
    assert (told.id, told.name, told.level, told.previous) == ("alice", "", 2, "")
    assert told.address.startswith("127.0.0.1:")
    assert [one.id for one in server.clients()] == ["alice"]
    client.publish("t", 1)
    client.flush()
    assert failures(caplog) == [], "to refuse is no failure"
    assert asked.is_empty()


def test_who_may_subscribe_to_what(servers: AnyDriver, clients: AnyDriver, made: Make) -> None:
    asked, inbox = Inbox(), Inbox()

    def on_subscribe(wanted: kps.Subscribing) -> bool:
        asked(wanted)
        if wanted.topic == "paid":
            raise kps.Refused("first pay")
        return wanted.topic != "secret"

    server = servers.server(on_subscribe=made(on_subscribe))
    client = clients.client(server.address, id="client")
    for topic, text in (("paid", "first pay"), ("secret", "the server refused this")):
        with pytest.raises(kps.ServerError, match=text) as refusal:
            client.subscribe(topic, inbox)
        assert (refusal.value.code, refusal.value.topic) == ("forbidden", topic)
        assert asked.get().topic == topic
    client.subscribe("room", inbox, info={"x": 1})
    wanted = asked.get()
    assert isinstance(wanted, kps.Subscribing)
    assert (wanted.client.id, wanted.topic, wanted.info) == ("client", "room", {"x": 1})
    client.subscribe(kps.Pattern("r*"), inbox)
    assert asked.get().topic == kps.Pattern("r*")
    client.subscribe("room", inbox)
    server.subscribe("secret", inbox)
    assert asked.is_empty(), "nobody asks about what there is, or what the server itself does"
    client.publish("room", 1)
    assert inbox.take(3) == [1, 1, 1]


@pytest.mark.parametrize("fault", ["raises", "returns"])
def test_a_hook_that_fails_decides_nothing(
    servers: AnyDriver,
    clients: AnyDriver,
    made: Make,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    """The client asks again: nothing is refused for good."""
    works = iter([False, True, False, True])

    def hook(subject: Any) -> Any:
        if next(works):
            return True
        if fault == "raises":
            raise ConnectionError("the database does not answer")
        return "certainly"

    server = servers.server(on_connect=made(hook), on_subscribe=made(hook))
    with pytest.raises(kps.ConnectFailed, match="could not decide on this"):
        clients.client(server.address, id="client", reconnect=False)
    errors = Inbox()
    client = clients.client(server.address, id="client", on_error=errors)
    client.subscribe("room", Inbox())
    error = errors.get()
    assert (error.code, error.topic) == ("unavailable", "room")
    assert str(error) == "the server could not decide on this"
    assert server.count_subscribers("room") == (0, 1, 1)
    lines = failures(caplog)
    assert len(lines) == 2
    assert all(line.startswith("the hook that decides on 127.0.0.1:") for line in lines)


def test_a_client_waits_for_a_hook_that_works_again(servers: AnyDriver, clients: AnyDriver) -> None:
    """It is not refused for good: close code 1011."""
    calls = Inbox()
    attempts = iter([False, False, True])

    def on_connect(client: kps.ConnectedClient) -> None:
        calls(client)
        if not next(attempts):
            raise ConnectionError("the database does not answer")

    server = servers.server(on_connect=on_connect)
    client = clients.client(server.address, id="client", reconnect=QUICK)
    client.publish("t", 1)
    client.flush()
    assert [calls.get().id for _ in range(3)] == ["client"] * 3


class Slow:
    """A hook that waits for somebody, in a thread or on the loop."""

    def __init__(self, servers: AnyDriver, *, is_async: bool) -> None:
        self.began, self.may_end = Inbox(), threading.Event()
        if is_async and isinstance(servers, ThreadsDriver):
            pytest.skip("on threads all functions are plain")
        self.hook: Any = self._on_loop if is_async else self._in_thread

    def _in_thread(self, subject: Any) -> bool:
        self.began(subject)
        assert self.may_end.wait(PATIENCE)
        return True

    async def _on_loop(self, subject: Any) -> bool:
        self.began(subject)
        while not self.may_end.is_set():
            await asyncio.sleep(0.001)
        return True


def begin(call: Callable[..., Any], *args: Any, **options: Any) -> Inbox:
    """Call something in a thread of its own; return where its result will be, or its error."""
    outcome = Inbox()

    def run() -> None:
        try:
            outcome(call(*args, **options))
        except kps.KPSError as error:
            outcome(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome


COLOURS = pytest.mark.parametrize("is_async", [False, True], ids=["function", "coroutine"])


@COLOURS
def test_a_slow_hook_holds_up_nobody_else(
    servers: AnyDriver, clients: AnyDriver, is_async: bool
) -> None:
    slow = Slow(servers, is_async=is_async)
    server = servers.server(on_subscribe=slow.hook)
    waiting, inbox = clients.client(server.address, id="waiting"), Inbox()
    confirmed = begin(waiting.subscribe, "room", inbox)
    assert slow.began.get().client.id == "waiting"
    other = clients.client(server.address, id="other")
    assert other.publish_with_receipt("room", "before") == 0
    waiting.publish("room", "behind it")
    other.flush()
    assert server.count_subscribers("room") == (0, 0, 0)
    assert confirmed.is_empty()
    slow.may_end.set()
    confirmed.get()
    assert inbox.data() == "behind it"
    assert other.publish_with_receipt("room", "after") == 1
    assert inbox.data() == "after"


@COLOURS
def test_a_client_that_leaves_while_a_hook_decides(
    servers: AnyDriver, clients: AnyDriver, is_async: bool
) -> None:
    slow = Slow(servers, is_async=is_async)
    left = Inbox()
    # It is not read from meanwhile, so only a ping shows that it has gone.
    limits = kps.ServerLimits(heartbeat_interval=0.1, heartbeat_timeout=PATIENCE)
    server = servers.server(
        on_subscribe=slow.hook, on_disconnect=left, on_unsubscribe=left, limits=limits
    )
    cable = Cable(server.address)
    try:
        client = clients.client(cable.address, id="client", reconnect=False)
        outcome = begin(client.subscribe, "room", Inbox())
        slow.began.get()
        cable.cut()
        assert isinstance(outcome.get(), kps.ConnectionLost)
        assert left.get().client.id == "client"
        slow.may_end.set()
        again = clients.client(server.address, id="client")
        again.subscribe("room", Inbox())
        assert server.count_subscribers("room") == (0, 1, 1)
        assert left.is_empty(), "it had no subscription that could end"
    finally:
        slow.may_end.set()
        cable.close()


@COLOURS
def test_a_server_that_stops_while_a_hook_decides(
    servers: AnyDriver, clients: AnyDriver, is_async: bool
) -> None:
    slow = Slow(servers, is_async=is_async)
    server = servers.server(on_connect=slow.hook)
    refused = begin(clients.client, server.address, id="client", reconnect=False)
    slow.began.get()
    stopped = begin(server.stop, 0.2)
    assert isinstance(refused.get(), kps.KPSError)
    slow.may_end.set()
    assert stopped.get() is None


def test_a_hook_may_use_the_server(servers: AnyDriver, clients: AnyDriver) -> None:
    """On threads any thread may; on asyncio a coroutine function, which runs on the loop."""
    inbox = Inbox()
    faces: list[Any] = []

    async def on_loop(wanted: kps.Subscribing) -> None:
        for one in faces[0].clients():
            if one.id != wanted.client.id:
                await faces[0].disconnect(one.id, "there can be only one")
        await faces[0].publish("news", f"{wanted.client.id} wants {wanted.topic}")

    def in_thread(wanted: kps.Subscribing) -> None:
        for one in faces[0].clients():
            if one.id != wanted.client.id:
                faces[0].disconnect(one.id, "there can be only one")
        faces[0].publish("news", f"{wanted.client.id} wants {wanted.topic}")

    hook: Any = in_thread if isinstance(servers, ThreadsDriver) else on_loop
    server = servers.server(on_subscribe=hook)
    faces.append(server if isinstance(servers, ThreadsDriver) else server._target)
    server.subscribe("news", inbox)
    ended = Inbox()
    clients.client(server.address, id="first", on_close=ended)
    second = clients.client(server.address, id="second")
    second.subscribe("room", Inbox())
    assert inbox.data() == "second wants room"
    ended.get()
    assert [one.id for one in server.clients()] == ["second"]


# -- what a server hears -------------------------------------------------------------------


def test_who_leaves_and_what_ends(servers: AnyDriver, clients: AnyDriver, made: Make) -> None:
    left, ended = Inbox(), Inbox()
    server = servers.server(on_disconnect=made(left), on_unsubscribe=made(ended))
    client = clients.client(server.address, id="client")
    for topic in ("a", "b", kps.Pattern("c*")):
        client.subscribe(topic, Inbox())
    server.subscribe("a", Inbox())
    server.unsubscribe("a")
    client.unsubscribe("a")
    event = ended.get()
    assert isinstance(event, kps.Unsubscribed)
    assert (event.client.id, event.topic, event.reason) == ("client", "a", "unsubscribed")
    client.close()
    endings = [ended.get() for _ in range(2)]
    assert [(e.topic, e.reason) for e in endings] == [
        ("b", "closed"),
        (kps.Pattern("c*"), "closed"),
    ]
    event = left.get()
    assert isinstance(event, kps.ClientLeft)
    assert (event.client.id, event.closed.code) == ("client", 1000)
    assert event.client.age > 0
    assert left.is_empty()
    assert ended.is_empty()


def test_a_notice_that_fails_is_logged(
    servers: AnyDriver, clients: AnyDriver, made: Make, caplog: pytest.LogCaptureFixture
) -> None:
    told = Inbox()

    def fail(event: Any) -> None:
        told(event)
        raise ValueError("too bad")

    server = servers.server(on_disconnect=made(fail), on_unsubscribe=made(fail))
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            client = clients.client(server.address, id="client")
            client.subscribe("room", Inbox())
            client.close()
            assert isinstance(told.get(), kps.Unsubscribed)
            assert isinstance(told.get(), kps.ClientLeft)
        eventually(lambda: len(failures(caplog)) == 4, "each is logged")


# -- the clients of a server ---------------------------------------------------------------


def test_a_server_lists_its_clients(connect: Connect, server: Any, clients: AnyDriver) -> None:
    assert server.clients() == []
    first = connect("first")
    clients.client(server.address, id="old", level=1)
    first.subscribe("room", Inbox())
    first.subscribe(kps.Pattern("r*"), Inbox())
    listed = {one.id: one for one in server.clients()}
    assert listed.keys() == {"first", "old"}
    assert (listed["first"].level, listed["first"].topics) == (2, 2)
    assert (listed["old"].level, listed["old"].topics) == (1, 0)
    assert listed["first"].age >= listed["old"].age >= 0
    first.close()
    eventually(lambda: [one.id for one in server.clients()] == ["old"], "one is gone")


@pytest.mark.parametrize(
    ("reason", "told"),
    [("", "disconnected by the server"), ("go", "go"), ("é" * 500, "é" * 61)],
)
def test_a_client_that_is_sent_away_stays_away(
    connect: Connect, server: Any, reason: str, told: str
) -> None:
    disconnected, closed, inbox = Inbox(), Inbox(), Inbox()
    client = connect("client", reconnect=QUICK, on_disconnect=disconnected, on_close=closed)
    client.subscribe("room", inbox)
    server.publish("room", "before")
    assert server.disconnect("client", reason)
    event = disconnected.get()
    assert (event.closed.code, event.closed.reason, event.retry_in) == (4003, told, None)
    closed.get()
    assert inbox.data() == "before", "what was queued came first"
    with pytest.raises(kps.ClientClosed):
        client.publish("room", 1)
    assert not server.disconnect("client")
    assert server.count_subscribers("room") == (0, 0, 0)
    assert connect("client").is_connected, "it may come again, if its program wants so"


def test_before_the_start_and_after_the_end(servers: AnyDriver) -> None:
    colour: Any = kps.sync.Server if isinstance(servers, ThreadsDriver) else kps.Server
    with pytest.raises(kps.InvalidState):
        colour("127.0.0.1:0").presence("room")
    started = servers.server()
    started.stop()
    for attempt in (
        started.clients,
        lambda: started.presence("room"),
        lambda: started.disconnect("client"),
    ):
        with pytest.raises(kps.ServerStopped):
            attempt()


@pytest.mark.parametrize("name", ["on_connect", "on_disconnect", "on_subscribe", "on_unsubscribe"])
def test_what_is_no_hook_is_refused(servers: AnyDriver, name: str) -> None:
    colour: Any = kps.sync.Server if isinstance(servers, ThreadsDriver) else kps.Server

    async def coroutine(subject: Any) -> bool:
        return True

    def generator(subject: Any) -> Any:
        yield True

    wrong: list[Any] = [5, "hook", generator]
    if isinstance(servers, ThreadsDriver):
        wrong.append(coroutine)
    else:
        colour("127.0.0.1:0", **{name: coroutine})
    for hook in wrong:
        with pytest.raises(kps.InvalidArgument, match=name):
            colour("127.0.0.1:0", **{name: hook})
