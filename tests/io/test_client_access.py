"""Clients with tokens, and what the server refuses them: on both drivers, over sockets."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

import kps
import kps.sync
from tests.io.harness import AnyDriver, Cable, Inbox, eventually
from tests.io.test_asyncio import on_both_loops

QUICK = kps.Backoff(first=0.01, longest=0.05)
READER = kps.Permissions(publish=["log/*"], subscribe=["news", "log/*"])
STRANGER = kps.Permissions(publish=[], subscribe=["log/*"])

# Longer than a test may take: who still waits for an answer is not told in time.
ENDLESS = 60.0


def auth(token: str) -> kps.Identity | None:
    permissions = {"reader": READER, "stranger": STRANGER}.get(token)
    return kps.Identity("someone", permissions) if permissions else None


@pytest.fixture
def server(servers: AnyDriver) -> Any:
    """A server that wants tokens."""
    return servers.server(id="server", auth=auth)


class Tokens:
    """A function that gives one token after the other, and then always the last one."""

    def __init__(self, *tokens: str | Exception) -> None:
        self.tokens = list(tokens)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        token = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
        if isinstance(token, Exception):
            raise token
        return token


# -- tokens -----------------------------------------------------------------------------------


def test_a_token_lets_it_in(clients: AnyDriver, server: Any) -> None:
    tokens = Tokens("reader")
    for token in ("reader", tokens):
        client = clients.client(server.address, token=token)
        assert client.publish_with_receipt("log/1", 1) == 0
    assert tokens.calls == 1
    clients.client(server.url + "?token=reader")


def test_a_bad_token_ends_it(clients: AnyDriver, server: Any) -> None:
    for options in ({"token": "wrong"}, {"token": lambda: "wrong", "reconnect": False}):
        with pytest.raises(kps.ConnectFailed) as failure:
            clients.client(server.address, **options)
        assert failure.value.status == 401
        assert "wrong" not in str(failure.value)


@pytest.mark.parametrize("asks_connect", [False, True])
def test_a_refused_id_has_a_code(
    servers: AnyDriver, clients: AnyDriver, asks_connect: bool
) -> None:
    def judge(token: str) -> kps.Identity:
        return kps.Identity(token, kps.Permissions(ids=["desk", f"{token}/*"]))

    hooks: dict[str, Any] = {"on_connect": lambda client: True} if asks_connect else {}
    server = servers.server(id="server", auth=judge, **hooks)
    clients.client(server.address, token="ann", id="desk")
    for client_id, code in (("desk", "id_unavailable"), ("ann/1", "forbidden")):
        with pytest.raises(kps.ServerError, match="the server refused this client") as refusal:
            clients.client(server.address, token="ben", id=client_id)
        assert refusal.value.code == code
    clients.client(server.address, token="ben", id="ben/1")


def test_a_function_is_asked_before_each_attempt(clients: AnyDriver, server: Any) -> None:
    tokens = Tokens("wrong", LookupError("not now"), "two words", "reader")
    client = clients.client(server.address, token=tokens, reconnect=QUICK)
    assert tokens.calls == 4
    client.flush()


def test_a_function_that_fails(
    clients: AnyDriver, server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(kps.ConnectFailed, match="for the token failed: LookupError: not now"):
        clients.client(server.address, token=Tokens(LookupError("not now")), reconnect=False)
    clients.client(server.address, token=Tokens(KeyError("x"), "reader"), reconnect=QUICK)
    line = "the function for the token failed: KeyError: 'x'; next attempt in"
    eventually(lambda: line in caplog.text, "the line about it")


def test_a_function_that_takes_its_time_keeps_no_other_thread_waiting(server: Any) -> None:
    asked, release = threading.Event(), threading.Event()

    def give() -> str:
        asked.set()
        assert release.wait(ENDLESS)
        return "reader"

    client = kps.sync.Client(server.address, token=give)
    opener = threading.Thread(target=client.__enter__)
    opener.start()
    assert asked.wait(ENDLESS)
    assert not client.is_connected
    with pytest.raises(kps.NotConnected):
        client.publish("log/1", 1)
    release.set()
    opener.join()
    client.flush()
    client.close()


def test_when_the_time_is_over_it_comes_back_with_a_new_token(
    servers: AnyDriver, clients: AnyDriver
) -> None:
    lifetime = 10.0
    lost, found, news = Inbox(), Inbox(), Inbox()

    def judge(token: str) -> kps.Identity:
        return kps.Identity("alice", lifetime=lifetime if token == "short" else None)

    server = servers.server(auth=judge)
    client = clients.client(
        server.address,
        token=Tokens("short", "short", "long"),
        reconnect=QUICK,
        on_disconnect=lost,
        on_connect=found,
    )
    client.subscribe("news", news)
    for again in (False, True):
        assert found.get().again is again
        servers.skip(lifetime)
        assert lost.get().closed.code == 4002
    assert found.get().again
    servers.skip(lifetime)
    client.flush()
    assert lost.is_empty()
    server.publish("news", 1)
    assert news.data() == 1


def test_when_the_token_is_of_no_use_any_more_it_ends(
    servers: AnyDriver, clients: AnyDriver
) -> None:
    used = []

    def once(token: str) -> kps.Identity | None:
        used.append(token)
        return kps.Identity("alice") if len(used) == 1 else None

    closed = Inbox()
    server = servers.server(auth=once)
    cable = Cable(server.address)
    client = clients.client(cable.address, token="reader", reconnect=QUICK, on_close=closed)
    messages = client.subscribe("news")
    cable.cut()
    closed.get()
    with pytest.raises(kps.ConnectFailed) as failure:
        next(iter(messages))
    assert failure.value.status == 401
    with pytest.raises(kps.ClientClosed, match="refused with HTTP status 401"):
        client.publish("news", 1)
    cable.close()


@pytest.mark.parametrize("make", [kps.Client, kps.sync.Client])
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"token": "secret\n"}, "without spaces and line ends"),
        ({"token": ""}, "a text that is not empty"),
        ({"token": "secret", "headers": {"authorization": "x"}}, "and the header Authorization"),
        ({"headers": {"Authorization": "Bearer secret\n"}}, "the header Authorization has line"),
        ({"headers": {"X-Key": "secret\r\nHost: other"}}, "the header X-Key has line ends"),
        ({"headers": {"A key": "secret"}}, "not the name of a header: 'A key'"),
    ],
)
def test_what_cannot_be_sent(make: Any, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(kps.InvalidArgument, match=reason) as refused:
        make("localhost:1", **options)
    assert "secret" not in str(refused.value)


def test_no_token_is_logged(
    clients: AnyDriver, server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    lost = Inbox()
    cable = Cable(server.address)

    def is_back() -> bool:
        return bool(client.is_connected)

    with_query = f"ws://{cable.address}/ws/bus?token=reader"
    for address, token in ((cable.address, "reader"), (with_query, None)):
        client = clients.client(address, token=token, reconnect=QUICK, on_disconnect=lost)
        client.publish("forbidden", 1)
        client.flush()
        cable.refuses = True
        cable.cut()
        lost.get()
        eventually(lambda: "cannot connect to" in caplog.text, "an attempt that fails")
        cable.refuses = False
        eventually(is_back, "a connection")
        client.close()
        for line in (  # on threads, which write it a moment later
            f"connected to ws://{cable.address}/ws/bus as",
            f"connected again to ws://{cable.address}/ws/bus as",
            "this client may not publish on this topic (publish 'forbidden')",
        ):
            eventually(lambda line=line: line in caplog.text, line)  # type: ignore[misc]
        told = [*caplog.records]
        assert "reader" not in caplog.text + repr([record.__dict__ for record in told])
        caplog.clear()
    cable.close()


# -- what is refused ----------------------------------------------------------------------------


@pytest.fixture
def connect(clients: AnyDriver, server: Any) -> Callable[..., Any]:
    """Makes clients that may do little, and wait long for answers."""

    def make(**options: Any) -> Any:
        return clients.client(server.address, token="reader", request_timeout=ENDLESS, **options)

    return make


def test_a_refused_subscription_raises_at_once(connect: Callable[..., Any]) -> None:
    errors, inbox = Inbox(), Inbox()
    client = connect(on_error=errors)
    for callback in (None, inbox):
        with pytest.raises(kps.ServerError, match="may not subscribe to this topic") as refused:
            client.subscribe("secret", callback)
        error = refused.value
        assert (error.code, error.request, error.topic) == ("forbidden", "subscribe", "secret")
    with pytest.raises(kps.ServerError):
        client.Subscribe("secret", lambda message, unsub: None)
    client.subscribe("news", inbox)
    client.flush()
    assert errors.is_empty()


def test_a_refused_publication_is_told_with_its_topic(connect: Callable[..., Any]) -> None:
    errors = Inbox()
    client = connect(on_error=errors)
    client.publish("secret", 1)
    error = errors.get()
    assert (error.code, error.request, error.topic) == ("forbidden", "publish", "secret")
    with pytest.raises(kps.ServerError) as refused:
        client.publish_with_receipt("secret", 1)
    assert refused.value.topic == "secret"
    with pytest.raises(kps.ServerError) as refused:
        client.publish_with_ack("secret", 1, timeout=ENDLESS).wait()
    assert (refused.value.code, refused.value.topic) == ("forbidden", "secret")
    client.publish_to_id("nobody", 1)
    error = errors.get()
    assert (error.code, error.to) == ("no_such_client", "nobody")


def test_a_subscription_may_be_refused_after_a_reconnect(clients: AnyDriver, server: Any) -> None:
    errors, logs, handled, entered = Inbox(), Inbox(), Inbox(), threading.Event()
    go_on = threading.Event()

    def handle(message: kps.Message) -> None:
        entered.set()
        assert go_on.wait(ENDLESS)
        handled(message)

    cable = Cable(server.address)
    client = clients.client(
        cable.address,
        token=Tokens("reader", "stranger"),
        reconnect=QUICK,
        on_error=errors,
        request_timeout=ENDLESS,
    )
    messages = client.subscribe("news")
    client.subscribe("news", handle)
    for number in range(3):
        server.publish("news", number)
    assert entered.wait(ENDLESS)
    iterator = iter(messages)
    assert next(iterator).data == 0
    eventually(lambda: len(messages._mailbox) == 2, "the last message")
    cable.cut()
    eventually(lambda: messages._mailbox.error is not None, "the refusal")
    assert [next(iterator).data for _ in range(2)] == [1, 2]  # what came before is not lost
    with pytest.raises(kps.ServerError, match="may not subscribe to this topic"):
        next(iterator)
    go_on.set()
    error = errors.get()
    assert (error.code, error.request, error.topic) == ("forbidden", "subscribe", "news")
    assert handled.take(3) == [0, 1, 2]
    client.subscribe("log/1", logs)
    cable.cut()  # neither is asked for again
    eventually(lambda: cable.connections == 3 and client.is_connected, "a connection")
    client.flush()
    server.publish("log/1", 1)
    assert logs.data() == 1
    assert sum(server.count_subscribers("news")) == 0
    eventually(lambda: len(client._driver.dispatcher._callbacks) == 1, "the end of its callback")
    assert errors.is_empty()
    messages.unsubscribe()
    cable.close()


@on_both_loops
async def test_nobody_awaits_it_on_asyncio() -> None:
    errors: list[kps.ServerError] = []

    async def failed(error: kps.ServerError) -> None:
        errors.append(error)

    async with (
        kps.Server("127.0.0.1:0", auth=auth) as server,
        kps.Client(server.address, token="reader", on_error=failed) as client,
    ):
        subscription = client.subscribe("secret", print)
        with pytest.raises(kps.ServerError):
            async for _ in client.subscribe("secret"):
                pass
        await client.flush()
        assert [(error.code, error.topic) for error in errors] == [("forbidden", "secret")]
        with pytest.raises(kps.ServerError):
            await subscription
        assert client._driver.dispatcher._callbacks == {}
        assert client._driver._arrivals == {}
