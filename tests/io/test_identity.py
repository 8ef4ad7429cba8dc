"""Who a client is: the ways that a token takes to the server, and what follows from it."""

import asyncio
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as dial

import kps
from tests.io.harness import PATIENCE, AnyDriver, AsyncioDriver, Inbox, eventually
from tests.io.raw import Raw, masked

ALICE, BOB, READER = "alice-0123456789abcdef", "bob-0123456789/+abcdef", "reader-0123456789abcdef"
IDENTITIES = {
    ALICE: kps.Identity("alice"),
    BOB: kps.Identity("bob"),
    READER: kps.Identity("alice", kps.Permissions(publish=["log/*"])),
}
SECRET = "a secret of at least thirty-two bytes"

# No deadline but the one that a test is about comes while it runs.
PATIENT = kps.ServerLimits(handshake_timeout=300, register_timeout=300, heartbeat_interval=300)

# Where a test is about a deadline, this comes first. The test lets the time pass when all is ready
# for it, so nothing is too late on a slow machine.
SOON = 100.0
OVERDUE = kps.ServerLimits(handshake_timeout=SOON, register_timeout=SOON, heartbeat_interval=300)


def auth(token: str) -> Any:
    return IDENTITIES.get(token)


def broken(token: str) -> Any:
    raise ConnectionError("the database does not answer")


def unable(token: str) -> Any:
    return kps.HttpResponse.text(503, "ask again later")


@pytest.fixture
def server(servers: AnyDriver) -> Any:
    """A server that wants tokens."""
    return servers.server(id="server", auth=auth, limits=PATIENT)


@contextmanager
def peer(server: Any, token: str = "", query: str = "") -> Iterator[ClientConnection]:
    """A client that is not ours, with a token in the header or something in the query."""
    headers = {"Authorization": f"Bearer {token}"} if token else None
    with dial(server.url + query, additional_headers=headers, open_timeout=PATIENCE) as peer:
        yield peer


def ask(peer: ClientConnection, action: str, **fields: Any) -> dict[str, Any]:
    """Send a message and return the next one that comes."""
    peer.send(json.dumps({"action": action, **fields}))
    answer = json.loads(peer.recv(PATIENCE))
    assert isinstance(answer, dict)
    return answer


def register(peer: ClientConnection, client_id: str, **fields: Any) -> None:
    """Ping, on level 2, and see that it is taken."""
    answer = ask(peer, "ping", **{"from": client_id, "proto": 2, **fields})
    assert (answer["action"], answer.get("id")) == ("pong", client_id), answer


def may_publish(peer: ClientConnection, topic: str) -> bool:
    answer = ask(peer, "publish", topic=topic, data=1, receipt="r")
    assert answer["action"] in ("published", "error"), answer
    return bool(answer["action"] == "published")


def end_of(peer: ClientConnection) -> tuple[int, str]:
    """Code and reason of the close that is the next thing to come."""
    with pytest.raises(ConnectionClosed) as closed:
        peer.recv(PATIENCE)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


def refusal(server: Any, token: str = "", query: str = "") -> Any:
    """The HTTP response to a client that is turned away."""
    with pytest.raises(InvalidStatus) as refused, peer(server, token, query):
        pass
    return refused.value.response


def error(text: str, code: str = "", **fields: Any) -> dict[str, Any]:
    """An error as a client on level 1 gets it or, with a code, one on level 2."""
    more = {"code": code, "request": "ping", **fields} if code else {}
    return {"action": "error", "error": text, **more}


# -- the three ways ---------------------------------------------------------------------------


def test_the_three_ways_of_a_token(server: Any) -> None:
    with (
        peer(server, READER) as by_header,
        peer(server, query=f"?token={READER}") as by_query,
        peer(server) as by_message,
    ):
        register(by_header, "h")
        register(by_query, "q")
        register(by_message, "m", token=READER)
        for known in (by_header, by_query, by_message):
            assert may_publish(known, "log/1")
            assert not may_publish(known, "news")


def test_what_a_token_looks_like_in_a_request(server: Any) -> None:
    for query in (
        f"?token={quote(BOB, safe='')}",
        f"?a=1&token={quote(BOB, safe='')}&token={ALICE}",
        f"?x=%E9&token={quote(BOB, safe='')}",
    ):
        with peer(server, query=query) as bob:
            register(bob, "bob")
    for scheme in ("Bearer", "bearer", "BEARER", "Bearer "):
        header = {"Authorization": f"{scheme} {ALICE}"}
        with dial(server.url + "?token=bad", additional_headers=header) as alice:
            register(alice, "alice")  # the header counts
    for header in ({"Authorization": f"Basic {ALICE}"}, {"Authorization": ALICE}):
        with dial(server.url, additional_headers=header) as nobody:
            assert ask(nobody, "ping") == error("a token is needed")


def test_clients_of_ours(servers: AnyDriver, clients: AnyDriver, tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(f'[alice]\ntoken = "{ALICE}"\npublish = ["log/*"]\n')
    path.chmod(0o600)
    file = kps.TokenFile(path)
    server = servers.server(auth=file)

    def connect(token: Any, client_id: str) -> Any:
        return clients.client(server.address, id=client_id, token=token, reconnect=False)

    inbox = Inbox()
    alice = connect(ALICE, "alice")
    alice.subscribe("news", inbox)
    with pytest.raises(kps.ServerError, match="may not publish on this topic"):
        alice.publish_with_receipt("news", 1)
    with pytest.raises(kps.ConnectFailed) as failure:
        connect(BOB, "bob")
    assert failure.value.status == 401
    path.write_text(path.read_text() + f'[bob]\ntoken = "{BOB}"\n')
    file.reload()
    bob = connect(lambda: BOB, "bob")
    bob.publish("news", 1)
    assert inbox.data() == 1


# -- tokens that are not valid ----------------------------------------------------------------


@pytest.mark.parametrize("token", ["bad", ALICE + "x", "x" * 4000, "\xe9\xff"], ids=range(4))
def test_a_bad_token_in_the_request(server: Any, token: str) -> None:
    raw = Raw(server.address)  # which may have any bytes in its header
    header = f"Host: test\r\nAuthorization: Bearer {token}".encode("latin-1")
    raw.send((REQUEST % b"").replace(b"Host: test", header))
    assert raw.status() == 401
    raw.close()
    for query in (f"?token={quote(token)}", f"?token={quote(token, encoding='latin-1')}"):
        response = refusal(server, query=query)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.body == b"the token is not valid\n"
    assert server.count_clients() == 0


@pytest.mark.parametrize("token", ["bad", "x" * 50_000, "é\x00"], ids=repr)
def test_a_bad_token_in_the_first_message(server: Any, token: Any) -> None:
    with peer(server) as stranger:
        answer = ask(stranger, "ping", token=token, **{"from": "x"})
        assert answer == error("the token is not valid")
        assert end_of(stranger) == (1008, "the token is not valid")
    assert server.count_clients() == 0


@pytest.mark.parametrize("fields", [{}, {"token": ""}, {"token": None}], ids=str)
def test_no_token(server: Any, fields: dict[str, Any]) -> None:
    for query in ("", "?token=", "?t=x"):
        with peer(server, query=query) as stranger:
            assert ask(stranger, "subscribe", topic="t")["error"].startswith(
                "client not registered"
            )
            assert ask(stranger, "ping", **{"from": "x"}, **fields) == error("a token is needed")
            assert end_of(stranger) == (1008, "a token is needed")
    assert server.count_clients() == 0


def test_where_no_token_is_asked_for_none_is_looked_at(servers: AnyDriver) -> None:
    server = servers.server()
    with peer(server, "whatever", "?token=whatever") as anybody:
        register(anybody, "a", token="whatever")


# -- the hook ---------------------------------------------------------------------------------


class AsyncHook:
    """A hook that is an object."""

    async def __call__(self, token: str) -> Any:
        await asyncio.sleep(0)
        return auth(token)


async def coroutine(token: str) -> Any:
    await asyncio.sleep(0)
    return auth(token)


@pytest.mark.parametrize(
    "hook", [auth, coroutine, AsyncHook(), lambda token: coroutine(token)], ids=range(4)
)
def test_kinds_of_hooks_on_asyncio(hook: Any) -> None:
    driver = AsyncioDriver()
    try:
        server = driver.server(auth=hook)
        with peer(server, ALICE) as by_header, peer(server) as by_message:
            register(by_header, "h")
            register(by_message, "m", token=ALICE)
        assert refusal(server, "bad").status_code == 401
    finally:
        driver.close()


def test_reloading_reads_the_tokens_again(servers: AnyDriver, tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(f'[alice]\ntoken = "{ALICE}"\n')
    path.chmod(0o600)
    server = servers.server(auth=kps.TokenFile(path))
    with peer(server, ALICE) as old:
        path.write_text(f'[bob]\ntoken = "{BOB}"\n')
        server.reload()
        with peer(server, BOB):
            pass
        with pytest.raises(InvalidStatus), peer(server, ALICE):
            pass
        path.write_text("[bob]\ntoken = 5\n")
        with pytest.raises(kps.ServerStartFailed):
            server.reload()
        with peer(server, BOB):  # all is as it was
            pass
        old.send('{"action":"ping","from":"a"}')  # and who is there stays
        assert json.loads(old.recv(PATIENCE)) == {"action": "pong", "id": "a"}


def test_a_hook_that_raises(servers: AnyDriver, caplog: pytest.LogCaptureFixture) -> None:
    server = servers.server(auth=broken)
    assert refusal(server, ALICE).status_code == 500
    with peer(server) as client:
        client.send(json.dumps({"action": "ping", "token": ALICE}))
        assert end_of(client) == (1011, "the token could not be judged")  # and no error before
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(failures) == 2
    for record in failures:
        assert record.getMessage().startswith("the hook that decides on 127.0.0.1:")
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], ConnectionError)


def test_a_hook_that_cannot_say(servers: AnyDriver) -> None:
    server = servers.server(auth=unable)
    response = refusal(server, ALICE)
    assert (response.status_code, response.body) == (503, b"ask again later\n")
    with peer(server) as client:
        client.send(json.dumps({"action": "ping", "token": ALICE}))
        assert end_of(client) == (1011, "the token could not be judged")


def test_a_hook_that_raises_what_a_coroutine_may_not(servers: AnyDriver) -> None:
    """An exhausted iterator in it is a failure like another, and answered as soon."""
    server = servers.server(auth=lambda token: next(iter(())), limits=PATIENT)
    assert refusal(server, ALICE).status_code == 500


@pytest.mark.parametrize(
    "verdict", [True, "alice", 5, [], b"", pytest.param(object(), id="object")], ids=repr
)
def test_a_hook_that_returns_something_else(servers: AnyDriver, verdict: Any) -> None:
    """What is no identity opens nothing: the hook has failed."""
    server = servers.server(auth=lambda token: verdict)
    assert refusal(server, ALICE).status_code == 500
    with peer(server) as client:
        client.send(json.dumps({"action": "ping", "token": ALICE}))
        assert end_of(client) == (1011, "the token could not be judged")


def test_a_hook_that_hangs_delays_no_other_client(servers: AnyDriver) -> None:
    release = threading.Event()

    def hook(token: str) -> Any:
        if token == BOB:
            release.wait(PATIENCE)
        return auth(token)

    server = servers.server(auth=hook, limits=PATIENT)
    with peer(server) as slow, peer(server, ALICE) as quick:
        slow.send(json.dumps({"action": "ping", "from": "bob", "token": BOB}))
        register(quick, "alice")
        assert server.count_clients() == 1
        release.set()
        assert json.loads(slow.recv(PATIENCE)) == {"action": "pong", "id": "bob"}


REQUEST = (
    b"GET /ws/bus%s HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.mark.parametrize("way", ["request", "message"])
def test_a_hook_that_answers_too_late(servers: AnyDriver, way: str) -> None:
    """Its answer is not used. (A server with threads cannot say so before.)"""
    asked, release = threading.Event(), threading.Event()

    def hook(token: str) -> Any:
        asked.set()
        release.wait(PATIENCE)
        return auth(token)

    server = servers.server(auth=hook, limits=OVERDUE)
    raw = Raw(server.address)
    try:
        if way == "message":
            raw.upgrade()
            raw.send(masked(json.dumps({"action": "ping", "token": ALICE}).encode()))
        else:
            raw.send(REQUEST % f"?token={ALICE}".encode())
        assert asked.wait(PATIENCE)
        (connection,) = server._hub.connections.values()
        servers.skip(SOON)
        eventually(lambda: connection.closed is not None, "the end of its time")
        release.set()
        if way == "message":
            assert raw.close_code() == 1008
        else:
            assert raw.status() == 503
        assert server.count_clients() == 0
    finally:
        release.set()
        raw.close()


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "plain"])
def test_a_hook_that_never_returns_on_asyncio(is_async: bool) -> None:
    """The client is answered in time; a coroutine ends with the connection."""
    asked, release, ended = Inbox(), threading.Event(), threading.Semaphore(0)

    def plain(token: str) -> Any:
        asked()
        release.wait(PATIENCE)

    async def forever(token: str) -> Any:
        asked()
        try:
            await asyncio.Event().wait()
        finally:
            ended.release()

    driver = AsyncioDriver()
    try:
        server = driver.server(auth=forever if is_async else plain, limits=OVERDUE)
        raw = Raw(server.address)
        raw.send(REQUEST % f"?token={ALICE}".encode())
        asked.get()
        driver.skip(SOON)
        assert raw.status() == 503
        raw.close()
        with peer(server) as client:
            client.send(json.dumps({"action": "ping", "token": ALICE}))
            asked.get()
            driver.skip(SOON)
            assert end_of(client) == (1008, "there was no ping in time")
        assert not is_async or all(ended.acquire(timeout=PATIENCE) for _ in range(2))
    finally:
        release.set()
        driver.close()


# -- what comes behind a token ----------------------------------------------------------------


@pytest.mark.parametrize("in_one_piece", [True, False], ids=["one-piece", "pieces"])
def test_messages_behind_a_token_come_after_it(servers: AnyDriver, in_one_piece: bool) -> None:
    """In order, and on the level that the ping settles; also behind a renewal."""
    release = threading.Event()

    def hook(token: str) -> Any:
        assert release.wait(PATIENCE)
        return auth(token)

    server = servers.server(auth=hook, limits=PATIENT)
    messages: list[Any] = [
        {"action": "ping", "from": "a", "proto": 2, "token": ALICE},
        {"action": "subscribe", "topic": "log/t"},
        {"action": "publish", "topic": "log/t", "batch": [1, 2]},
        {"action": "ping", "from": "b", "token": READER},
        {"action": "publish", "topic": "log/t", "data": 3, "receipt": "r"},
        {"action": "publish", "topic": "news", "data": 4},
        {"action": "ping", "from": "c", "token": ALICE},
        {"action": "publish", "topic": "news", "data": 5, "receipt": "s"},
    ]
    raw = Raw(server.address).upgrade()
    frames = [masked(json.dumps(message).encode()) for message in messages]
    for data in [b"".join(frames)] if in_one_piece else frames:
        raw.send(data)
    release.set()
    seen: list[Any] = []
    while not seen or seen[-1] != ("published", "s"):
        payload = raw.message()
        for message in payload if isinstance(payload, list) else [payload]:
            seen += _gist(message)
    raw.close()
    assert seen == [
        ("pong", "a"),
        ("subscribed", "log/t"),
        ("message", "a", 1),
        ("message", "a", 2),
        ("pong", "b"),
        ("message", "b", 3),
        ("published", "r"),
        ("error", "forbidden"),
        ("pong", "c"),
        ("published", "s"),
    ]


def _gist(message: Any) -> list[tuple[Any, ...]]:
    match message["action"]:
        case "pong":
            return [("pong", message["id"])]
        case "error":
            return [("error", message["code"])]
        case "published":
            return [("published", message["receipt"])]
        case "subscribed":
            return [("subscribed", message["topic"])]
        case _:
            payloads = message.get("batch", [message.get("data")])
            return [("message", message["from"], payload) for payload in payloads]


def test_nothing_behind_a_bad_token_is_done(server: Any) -> None:
    inbox = Inbox()
    server.subscribe("t", inbox)
    for fields in ({"token": "bad"}, {}):
        raw = Raw(server.address).upgrade()
        raw.send(
            masked(json.dumps({"action": "ping", "from": "x", **fields}).encode())
            + masked(json.dumps({"action": "ping", "from": "x", "token": ALICE}).encode())
            + masked(json.dumps({"action": "publish", "topic": "t", "data": 1}).encode())
        )
        assert "token" in raw.error()
        assert raw.frame()[0] == 8
        raw.close()
    server.publish("t", 2)
    assert inbox.data() == 2
    assert inbox.is_empty()


def test_many_messages_behind_a_token_wait_in_the_network(servers: AnyDriver) -> None:
    """A client that sends without end is not read from while its token is judged."""
    asked, release = threading.Event(), threading.Event()

    def hook(token: str) -> Any:
        asked.set()
        assert release.wait(PATIENCE)
        return auth(token)

    server = servers.server(auth=hook, limits=PATIENT)
    inbox = Inbox()
    server.subscribe("t", inbox)
    raw = Raw(server.address).upgrade()
    raw.send(masked(json.dumps({"action": "ping", "from": "x", "token": ALICE}).encode()))
    assert asked.wait(PATIENCE)
    publication = {"action": "publish", "topic": "t", "data": "x" * 60000}
    # 30 MB, which no buffers between here and there hold.
    frames = masked(json.dumps(publication).encode()) * 500
    sender = threading.Thread(target=raw.send, args=(frames,), daemon=True)
    sender.start()
    (connection,) = server._hub.connections.values()
    eventually(lambda: connection.wants_pause, "the pause")
    bytes_in = -1
    while bytes_in != server._hub.stats.bytes_in:  # until no more is read
        bytes_in = server._hub.stats.bytes_in
        sender.join(0.2)
    assert sender.is_alive()
    assert bytes_in < 2_000_000
    release.set()
    # What the server answers must go somewhere.
    reader = threading.Thread(target=raw.rest, daemon=True)
    reader.start()
    for _ in range(500):
        assert inbox.data() == "x" * 60000
    sender.join(PATIENCE)
    raw.socket.shutdown(socket.SHUT_WR)
    reader.join(PATIENCE)
    raw.close()


# -- time and renewal -------------------------------------------------------------------------


def expiring(seconds: float) -> Callable[[str], Any]:
    """A hook that knows ``short``, for so many seconds from then on, and ``long``."""

    def hook(token: str) -> Any:
        name, _, kind = token.partition("-")
        if kind == "narrow":
            return kps.Identity(name, kps.Permissions(publish=["log/*"]))
        return kps.Identity(name, lifetime=seconds if kind == "short" else None)

    return hook


@pytest.mark.parametrize("way", ["header", "message"])
def test_a_connection_ends_with_its_token(servers: AnyDriver, way: str) -> None:
    jwt = pytest.importorskip("jwt", reason="PyJWT is not installed")
    token = jwt.encode({"sub": "alice", "exp": int(time.time()) + SOON}, SECRET, "HS256")
    server = servers.server(auth=kps.JWTVerifier(SECRET, leeway=50), limits=PATIENT)
    with peer(server, token if way == "header" else "") as alice:
        register(alice, "alice", **({"token": token} if way == "message" else {}))
        servers.skip(SOON)
        assert may_publish(alice, "t")  # the clocks may differ by as much as the leeway
        servers.skip(50)
        assert end_of(alice) == (4002, "the time of the token is over")
    assert server.count_clients() == 0


def test_a_client_of_ours_comes_back_when_its_time_is_over(
    servers: AnyDriver, clients: AnyDriver
) -> None:
    """With the token that its program gives it then."""
    lost, found = Inbox(), Inbox()
    server = servers.server(auth=expiring(SOON), limits=PATIENT)
    tokens = iter(["alice-short", "alice-long"])
    client = clients.client(
        server.address,
        id="alice",
        token=lambda: next(tokens),
        reconnect=kps.Backoff(first=0.01, longest=0.05),
        on_disconnect=lost,
        on_connect=found,
    )
    found.get()
    servers.skip(SOON)
    assert lost.get().closed.code == 4002
    found.get()
    (session,) = server._hub.clients.values()
    assert session.owner_name == "alice"
    client.close()


def test_renewal(servers: AnyDriver) -> None:
    server = servers.server(auth=expiring(SOON), limits=PATIENT)
    with peer(server, "alice-short") as renewed, peer(server, "alice-short") as shown:
        register(renewed, "alice")
        register(shown, "witness")
        register(renewed, "alice", token="alice-long")
        with peer(server, "alice-short") as later:
            register(later, "later")
            servers.skip(SOON)
            assert end_of(shown)[0] == 4002
            assert end_of(later)[0] == 4002  # when the time of the first is over as well
        assert may_publish(renewed, "t")
        register(renewed, "alice", token="alice-short")
        servers.skip(SOON)
        assert end_of(renewed)[0] == 4002


def test_renewal_by_a_bad_token_changes_nothing(servers: AnyDriver) -> None:
    def hook(token: str) -> Any:
        if token == "broken":
            raise ConnectionError("the database does not answer")
        return auth(token)

    server = servers.server(auth=hook, limits=PATIENT)
    with peer(server, READER) as alice:
        register(alice, "alice")
        for token, reason in (
            ("bad", "the token is not valid"),
            (BOB, "the token is that of another identity"),
            ("broken", "the token could not be judged"),
        ):
            # Not even the id that comes with it.
            answer = ask(alice, "ping", token=token, **{"from": "other"})
            assert answer == error(reason, "unauthorized")
            assert may_publish(alice, "log/1")
            assert not may_publish(alice, "news")
        register(alice, "alice")
        assert server.count_clients() == 1


def test_the_time_stays_when_renewal_fails(servers: AnyDriver) -> None:
    server = servers.server(auth=expiring(SOON), limits=PATIENT)
    with peer(server, "alice-short") as alice:
        register(alice, "alice")
        answer = ask(alice, "ping", token="bob-long", **{"from": "alice"})
        assert answer == error("the token is that of another identity", "unauthorized")
        servers.skip(SOON)
        assert end_of(alice) == (4002, "the time of the token is over")


def test_renewal_brings_new_permissions(servers: AnyDriver) -> None:
    server = servers.server(auth=expiring(300), limits=PATIENT)
    with peer(server) as alice:
        register(alice, "alice", token="alice-long")
        assert may_publish(alice, "news")
        register(alice, "alice", token="alice-narrow")
        assert not may_publish(alice, "news")
        assert may_publish(alice, "log/1")


# -- ids --------------------------------------------------------------------------------------


def test_an_id_belongs_to_an_identity(server: Any) -> None:
    taken = error("this id belongs to another client", "id_unavailable")
    with peer(server, BOB) as bob:
        register(bob, "bob")
        with peer(server, ALICE) as first:
            register(first, "desk")
            assert ask(bob, "ping", **{"from": "desk"}) == taken
            with peer(server, READER) as second:  # alice as well
                register(second, "desk")
                assert end_of(first)[0] == 4001
                assert ask(bob, "ping", **{"from": "desk"}) == taken
                assert may_publish(second, "log/1")
        eventually(lambda: server.count_clients() == 1, "the end of alice")
        assert ask(bob, "ping", **{"from": "desk"}) == taken
        register(bob, "bob")  # he is who he was
        with peer(server, ALICE) as third:
            register(third, "desk")
        with peer(server, BOB) as other:
            answer = ask(other, "ping", **{"from": "desk"})
            assert answer == error("this id belongs to another client")
            register(other, "chair")  # and is not sent away for it


# -- the hook for upgrades --------------------------------------------------------------------


def test_the_upgrade_hook_may_say_who_it_is(servers: AnyDriver) -> None:
    """By a cookie of a web application, for example; then no token is needed."""
    asked: list[str] = []

    def who(request: kps.HttpRequest) -> Any:
        if request.query == "no":
            return False
        session = request.cookies.get("session")
        return kps.Identity("alice", kps.Permissions(publish=["log/*"])) if session else True

    def hook(token: str) -> Any:
        asked.append(token)
        return auth(token)

    server = servers.server(on_upgrade=who, auth=hook, limits=PATIENT)
    header = {"Cookie": "a=b; session=1; c=d"}
    with dial(server.url + f"?token={BOB}", additional_headers=header) as alice:
        register(alice, "alice")
        assert may_publish(alice, "log/1")
        assert not may_publish(alice, "news")
        assert refusal(server, BOB, "?no").status_code == 403
        assert asked == []
        register(alice, "alice", token=ALICE)  # which renews it
        assert may_publish(alice, "news")
    with peer(server, BOB) as bob:
        register(bob, "bob")
    with peer(server) as nobody:
        assert ask(nobody, "ping") == error("a token is needed")
    assert refusal(server, "bad").status_code == 401
    assert asked == [ALICE, BOB, "bad"]


# -- secrets ----------------------------------------------------------------------------------


def test_no_token_gets_into_the_log(
    servers: AnyDriver, clients: AnyDriver, caplog: pytest.LogCaptureFixture
) -> None:
    requests: list[kps.HttpRequest] = []

    def look(request: kps.HttpRequest) -> bool:
        requests.append(request)
        return True

    def hook(token: str) -> Any:
        if token.startswith("broken"):
            raise ConnectionError("the database does not answer")
        return auth(token)

    caplog.set_level(logging.DEBUG)
    server = servers.server(on_upgrade=look, auth=hook)
    for secret in (ALICE, "bad-0123456789abcdef", "broken-0123456789abcdef"):
        header = f"Host: test\r\nAuthorization: Bearer {secret}".encode()
        for request in (
            REQUEST % f"?token={secret}".encode(),
            (REQUEST % b"").replace(b"Host: test", header),
        ):
            raw = Raw(server.address)
            raw.send(request)
            assert raw.status() in (101, 401, 500, 503)
            raw.close()
        raw = Raw(server.address).upgrade()
        raw.send(masked(json.dumps({"action": "ping", "from": "x", "token": secret}).encode()))
        raw.frame()
        raw.close()
    clients.client(server.address, headers={"Authorization": f"Bearer {ALICE}"}).close()
    clients.client(server.address, token=ALICE).close()
    clients.client(f"{server.url}?token={ALICE}").close()
    eventually(lambda: server.count_clients() == 0, "the end of all")
    assert len(requests) == 12
    eventually(lambda: "client x from 127.0.0.1" in caplog.text, "the line about it")
    shown = caplog.text + repr(requests) + repr([record.__dict__ for record in caplog.records])
    assert "0123456789" not in shown


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines that this project has logged so far."""
    return [record.getMessage() for record in list(caplog.records) if record.name == "kps"]


def test_no_id_makes_up_a_line_of_the_log(
    servers: AnyDriver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = servers.server()
    with peer(server) as client:
        register(client, "x\u2028WARNING kps: made up\u202e")
    shown = r"'x\u2028WARNING kps: made up\u202e'"
    eventually(
        lambda: sum(shown in line for line in logged(caplog)) == 2, "its coming and its going"
    )
    assert all(line.isprintable() for line in logged(caplog))


# -- the page about it ------------------------------------------------------------------------


def test_the_examples_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run one after the other, on a loopback address; each server knows its clients."""
    pytest.importorskip("jwt", reason="PyJWT is not installed")
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    Path("secret.key").write_text(SECRET + "\n")
    toml = re.sub(
        r"sha256:\w+…", lambda found: f"token-of-{found.start():010}", _example(page, "toml")
    )
    Path("tokens.toml").write_text(toml)
    Path("tokens.toml").chmod(0o600)

    class User:
        name, seconds_left = "alice", 300.0

    class Sessions:
        async def find(self, key: str) -> User | None:
            return User() if key == "s" else None

    names: dict[str, Any] = {"sessions": Sessions()}
    made: list[Any] = []
    for example in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        if "await log_out(" in example or "await server." in example:
            continue  # tests/docs runs these, within a coroutine
        names.pop("server", None)
        exec(example.replace("0.0.0.0:9313", "127.0.0.1:0"), names)
        made += [names["server"]] if "server" in names else []
    by_file, by_jwt, by_cookie = made
    listed = re.search(r"token-of-\d+", toml)
    assert listed is not None
    headers = [
        (by_file, {"Authorization": f"Bearer {listed.group()}"}),
        (by_jwt, {"Authorization": f"Bearer {names['token_for']('alice', SECRET.encode())}"}),
        (by_cookie, {"Cookie": "session=s"}),
        (kps.Server("127.0.0.1:0", auth=names["find"]), {"Authorization": "Bearer s"}),
    ]

    async def run() -> None:
        for server, good in headers:
            async with server:
                async with kps.Client(server.address, id="alice", headers=good):
                    (connection,) = server._hub.connections.values()
                    assert connection.session.gate.known.name == "alice"
                bad = {name: value[:-1] + "x" for name, value in good.items()}
                with pytest.raises(kps.ConnectFailed):
                    await kps.Client.connect(server.address, headers=bad, reconnect=False)

    asyncio.run(run())


def _example(page: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found.group(1)
