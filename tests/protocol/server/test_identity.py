"""Who a client is: tokens, identities that end, and whose an id is."""

import math
from typing import Any

import pytest

from kps.errors import InvalidArgument
from kps.protocol.access.identity import Identity, Permissions
from kps.protocol.server.events import LoginRefused, TokenPresented, UpgradeRequested
from kps.protocol.server_limits import RatePolicy, ServerLimits
from kps.protocol.wire.http import HttpRequest, HttpResponse
from tests.protocol.helpers import Answer, Peer, Stage, frame, json_frame, upgrade

NO_LIFETIMES: list[Any] = [
    "5", True, math.nan, math.inf, -math.inf, 10**400, -(10**400), 1e10, []
]  # fmt: skip
ALICE, BOB = Identity("alice"), Identity("bob")
INVALID = {"action": "error", "error": "the token is not valid"}


def ping(client_id: str, token: Any = None, **fields: Any) -> dict[str, Any]:
    return {"action": "ping", "from": client_id, **({"token": token} if token else {}), **fields}


def presented(stage: Stage) -> list[str]:
    return [event.token for event in stage.hub.events() if isinstance(event, TokenPresented)]


def peer_of(stage: Stage, identity: Identity, client_id: str, **fields: Any) -> Peer:
    """A registered peer that showed its token with the first ping."""
    peer = stage.peer().upgrade()
    peer.send(ping(client_id, "token", **fields))
    peer.identify(identity)
    assert peer.take()[0]["action"] == "pong"
    stage.hub.events()
    return peer


class TestRequest:
    def request(self, target: str = "/ws/bus", *headers: tuple[str, str]) -> HttpRequest:
        return HttpRequest("GET", target, headers)

    @pytest.mark.parametrize(
        ("request_", "token"),
        [
            (("/",), ""),
            (("/", ("authorization", "Bearer abc")), "abc"),
            (("/", ("authorization", "bearer  abc ")), "abc"),
            (("/", ("authorization", "Basic abc")), ""),
            (("/?token=abc",), "abc"),
            (("/?x=1&token=a%2Bb+c&token=other",), "a+b c"),
            (("/?token=abc", ("authorization", "Bearer first")), "first"),
            (("/?tokens=abc",), ""),
        ],
    )
    def test_token(self, request_: Any, token: str) -> None:
        assert self.request(*request_).token == token

    def test_cookies(self) -> None:
        request = self.request("/", ("cookie", "a=1; b=x=y;c; d= "))
        assert request.cookies == {"a": "1", "b": "x=y", "d": ""}
        assert self.request().cookies == {}

    def test_shows_no_secrets(self) -> None:
        request = self.request("/?token=secret", ("authorization", "Bearer secret"))
        assert "secret" not in repr(request)
        assert "secret" not in repr(TokenPresented(1, "secret"))


@pytest.mark.parametrize(
    "fields",
    [
        *[{"name": name} for name in (5, None, b"x", True)],
        *[{"permissions": one} for one in (5, None, "publish", {"publish": ["*"]})],
        *[{"lifetime": one} for one in NO_LIFETIMES],
    ],
)
def test_what_is_no_identity_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        Identity(**{"name": "x", **fields})
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize("lifetime", [None, 5, 0.5, 0, -3.0, 1e9])
def test_lifetimes(lifetime: float | None) -> None:
    assert Identity("x", lifetime=lifetime).lifetime == lifetime


class TestHook:
    def asked(self, verdict: Any, **config: Any) -> tuple[Stage, Peer]:
        stage = Stage(asks_upgrade=True, **config)
        peer = stage.peer()
        peer.feed(upgrade("/ws/bus?token=abc"))
        (event,) = stage.hub.events()
        assert isinstance(event, UpgradeRequested)
        peer.decide(verdict)
        return stage, peer

    def test_identity(self) -> None:
        _, peer = self.asked(Identity("alice", Permissions(publish=[])), asks_token=True)
        peer.read_upgrade()
        assert peer.ask(ping("a")) == [{"action": "pong", "id": "a"}]
        assert peer.session.gate.identity == Identity("alice", Permissions(publish=[]))

    def test_yes_without_tokens_is_anybody(self) -> None:
        stage, peer = self.asked(True)
        peer.read_upgrade()
        assert peer.session.gate.identity is stage.hub.state.anybody

    def test_yes_leaves_it_to_the_token(self) -> None:
        stage, peer = self.asked(True, asks_token=True)
        assert presented(stage) == ["abc"]
        peer.identify(ALICE)
        peer.read_upgrade()
        assert peer.session.gate.identity == ALICE

    @pytest.mark.parametrize(
        ("verdict", "status"), [(False, 403), (None, 403), (HttpResponse(429, b"x"), 429)]
    )
    def test_no(self, verdict: Any, status: int) -> None:
        _, peer = self.asked(verdict)
        assert Answer(peer.read()).status == status


class TestTokenInTheRequest:
    def peer(self, stage: Stage) -> Peer:
        peer = stage.peer()
        peer.feed(upgrade(changed={"authorization": "Bearer abc"}))
        assert presented(stage) == ["abc"]
        return peer

    def test_valid(self) -> None:
        stage = Stage(asks_token=True)
        peer = self.peer(stage)
        peer.identify(ALICE)
        peer.read_upgrade()
        assert peer.ask(ping("a")) == [{"action": "pong", "id": "a"}]

    @pytest.mark.parametrize("verdict", [None, False, True, "alice"])
    def test_not_valid(self, verdict: Any) -> None:
        stage = Stage(asks_token=True)
        peer = self.peer(stage)
        peer.identify(verdict)
        answer = Answer(peer.read())
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"

    def test_cannot_be_judged(self) -> None:
        stage = Stage(asks_token=True)
        peer = self.peer(stage)
        peer.identify(HttpResponse(503, b"later"))
        assert Answer(peer.read()).status == 503

    def test_judged_too_late(self) -> None:
        stage = Stage(asks_token=True)
        peer = self.peer(stage)
        stage.advance(stage.hub.limits.handshake_timeout)
        assert Answer(peer.read()).status == 503
        peer.identify(ALICE)
        assert peer.read() == b""

    def test_is_not_asked_for(self) -> None:
        stage = Stage()
        peer = stage.peer()
        peer.feed(upgrade("/ws/bus?token=abc"))
        peer.read_upgrade()
        assert peer.ask(ping("a", "abc")) == [{"action": "pong", "id": "a"}]
        assert presented(stage) == []


class TestTokenInThePing:
    def peer(self, stage: Stage, *more: Any) -> Peer:
        peer = stage.peer().upgrade()
        assert peer.ask(ping("a", "abc"), *more) == []
        assert presented(stage) == ["abc"]
        assert peer.connection.wants_pause
        return peer

    def test_valid(self) -> None:
        stage = Stage(asks_token=True)
        peer = self.peer(stage)
        peer.identify(ALICE)
        assert not peer.connection.wants_pause
        assert peer.take() == [{"action": "pong", "id": "a"}]
        assert peer.session.gate.identity == ALICE
        assert peer.session.received == 1

    def test_what_is_behind_it_waits(self) -> None:
        stage = Stage(asks_token=True)
        peer = self.peer(stage, {"action": "subscribe", "topic": "t"}, {"action": "x"})
        peer.identify(ALICE)
        assert peer.take() == [
            {"action": "pong", "id": "a"},
            {"action": "subscribed", "topic": "t"},
            {"action": "error", "error": "unknown action: x"},
        ]

    def test_not_valid(self) -> None:
        stage = Stage(asks_token=True)
        peer = self.peer(stage, {"action": "subscribe", "topic": "t"})
        peer.identify(None)
        assert peer.take() == [INVALID]
        assert peer.closed == (1008, "the token is not valid")
        assert not stage.hub.clients

    def test_missing(self) -> None:
        stage = Stage(asks_token=True)
        peer = stage.peer().upgrade()
        assert peer.ask(ping("a")) == [{"action": "error", "error": "a token is needed"}]
        assert peer.closed == (1008, "a token is needed")

    @pytest.mark.parametrize("token", [5, ["x"], {"a": 1}])
    def test_of_another_type(self, token: Any) -> None:
        stage = Stage(asks_token=True)
        (error,) = stage.peer().upgrade().ask(ping("a", token))
        assert error["error"] == "field token must be a string"
        assert presented(stage) == []

    def test_an_array_behind_it(self) -> None:
        """Whether it is one on this level is known when the ping has been handled."""
        stage = Stage(asks_token=True)
        peer = stage.peer().upgrade()
        peer.send(ping("a", "abc", proto=2), [{"action": "subscribe", "topic": t} for t in "xy"])
        peer.identify(ALICE)
        assert [m["action"] for m in peer.take()] == ["pong", "subscribed", "subscribed"]

    def test_another_one_within_an_array(self) -> None:
        stage = Stage(asks_token=True)
        peer = peer_of(stage, ALICE, "a", proto=2)
        peer.send([{"action": "x"}, ping("a", "new"), {"action": "y"}, {"action": "z"}])
        assert [m["error"] for m in peer.take()] == ["unknown action: x"]
        peer.identify(ALICE)
        assert [m.get("request", "pong") for m in peer.take()] == ["pong", "y", "z"]

    def test_counts_as_one_message(self) -> None:
        limits = ServerLimits(message_rate=1.0, rate_policy=RatePolicy.ERROR)
        stage = Stage(asks_token=True, limits=limits)
        peer = self.peer(stage)
        peer.identify(ALICE)
        assert peer.take() == [{"action": "pong", "id": "a"}]

    def test_what_has_waited_counts(self) -> None:
        stage = Stage(asks_token=True, limits=ServerLimits(message_rate=10.0))
        peer = self.peer(stage, *[{"action": "x"}] * 100)
        assert peer.session.received == 1
        peer.identify(ALICE)
        assert len(peer.take()) == 10
        stage.advance(8.9)
        assert len(peer.take()) == 89
        assert peer.connection.wants_pause
        stage.advance(0.2)
        assert len(peer.take()) == 2
        assert not peer.connection.wants_pause

    def test_cannot_be_judged(self) -> None:
        """It is not refused, so that the client comes back."""
        stage = Stage(asks_token=True)
        peer = self.peer(stage)
        peer.identify(HttpResponse(500, b"x"))
        assert peer.take() == []
        assert peer.closed == (1011, "the token could not be judged")

    def test_judged_when_the_client_has_gone(self) -> None:
        stage = Stage(asks_token=True)
        peer = self.peer(stage)
        peer.connection.connection_lost(stage.clock.now)
        peer.identify(ALICE)
        assert not stage.hub.clients
        assert not stage.hub.connections

    def test_never_judged(self) -> None:
        stage = Stage(asks_token=True)
        peer = self.peer(stage)
        stage.advance(stage.hub.limits.register_timeout)
        assert peer.closed == (1008, "there was no ping in time")


class TestHeld:
    def test_what_is_wrong_behind_a_token_is_told_in_its_turn(self) -> None:
        stage = Stage(asks_token=True)
        peer = stage.peer().upgrade()
        peer.feed(json_frame({"action": "ping", "from": "a", "proto": 2, "token": "t"}))
        peer.feed(frame(b"{no json") + json_frame({"action": "subscribe", "topic": "t"}))
        assert peer.take() == []
        peer.identify(ALICE)
        answers = peer.take()
        assert [answer["action"] for answer in answers] == ["pong", "error", "subscribed"]
        assert answers[1]["code"] == "bad_message"


class TestEnd:
    def test_closes_when_the_time_is_over(self) -> None:
        stage = Stage(asks_token=True)
        peer = peer_of(stage, Identity("alice", lifetime=20.0), "a")
        stage.hub.state.bus.subscribe(peer.session, "t")
        stage.advance(19.9)
        assert peer.closed is None
        stage.advance(0.1)
        assert peer.closed == (4002, "the time of the token is over")
        assert not stage.hub.clients
        assert "t" not in stage.hub.state.bus

    def test_heartbeats_go_on_until_then(self) -> None:
        stage = Stage(asks_token=True)
        peer = peer_of(stage, Identity("alice", lifetime=1000.0), "a")
        stage.advance(26.0)
        peer.take()
        assert peer.inbox.pings == 1
        stage.advance(20.0)
        assert peer.connection.closed is not None
        assert peer.connection.closed.code == 1006

    def test_renewal(self) -> None:
        stage = Stage(asks_token=True)
        peer = peer_of(stage, Identity("alice", lifetime=20.0), "a")
        peer.send(ping("a", "new"))
        peer.identify(Identity("alice", Permissions(publish=[]), 40.0))
        assert peer.take() == [{"action": "pong", "id": "a"}]
        assert peer.ask({"action": "publish", "topic": "t"})[0]["action"] == "error"
        stage.advance(20.0)
        assert peer.ask(ping("a")) == [{"action": "pong", "id": "a"}]
        stage.advance(20.0)
        assert peer.closed is not None

    @pytest.mark.parametrize(
        ("verdict", "reason"),
        [
            (None, "the token is not valid"),
            (BOB, "the token is that of another identity"),
            (HttpResponse(500, b"x"), "the token could not be judged"),
        ],
    )
    def test_a_bad_renewal_changes_nothing(self, verdict: Any, reason: str) -> None:
        stage = Stage(asks_token=True)
        peer = peer_of(stage, ALICE, "a", proto=2)
        peer.send(ping("a", "new"), {"action": "subscribe", "topic": "t"})
        peer.identify(verdict)
        assert peer.take() == [
            {"action": "error", "error": reason, "code": "unauthorized", "request": "ping"},
            {"action": "subscribed", "topic": "t"},
        ]
        assert peer.session.gate.identity == ALICE
        assert peer.closed is None

    @pytest.mark.parametrize("taken", ["b", "server", "x" * 1000])
    def test_a_renewal_under_a_refused_id_changes_nothing(self, taken: str) -> None:
        stage = Stage(asks_token=True)
        peer_of(stage, BOB, "b")
        before = Identity("alice", Permissions(publish=["old"]), 20.0)
        peer = peer_of(stage, before, "a", proto=2)
        old, new = {"action": "publish", "topic": "old"}, {"action": "publish", "topic": "new"}
        assert [m["action"] for m in peer.ask(new, old)] == ["error"]
        peer.send(ping(taken, "better"), new, old)
        peer.identify(Identity("alice", Permissions(publish=["new"]), 1000.0))
        assert [m.get("request") for m in peer.take()] == ["ping", "publish"]
        assert [m["topic"] for m in peer.ask(old, new)] == ["new"]
        assert peer.session.gate.identity == before
        assert peer.session.id == "a"
        stage.advance(20.0)
        assert peer.closed == (4002, "the time of the token is over")

    def test_a_first_ping_under_a_refused_id_identifies_nobody(self) -> None:
        stage = Stage(asks_token=True)
        peer = stage.peer().upgrade()
        peer.send(ping("server", "token"))
        peer.identify(Identity("alice", lifetime=5.0))
        assert [m["action"] for m in peer.take()] == ["error"]
        assert peer.session.gate.identity is None
        peer.send(ping("a", "token"))
        peer.identify(ALICE)
        assert peer.take() == [{"action": "pong", "id": "a"}]
        stage.advance(5.0)
        assert peer.closed is None


class TestTold:
    """Refused logins leave a trace, with the address and the kind of reason."""

    def refusals(self, stage: Stage) -> list[LoginRefused]:
        return [event for event in stage.hub.events() if isinstance(event, LoginRefused)]

    @pytest.mark.parametrize(
        ("verdict", "reason"),
        [
            (None, "the token is not valid"),
            (HttpResponse(503, b"x"), "the token could not be judged"),
        ],
    )
    def test_a_first_token(self, verdict: Any, reason: str) -> None:
        stage = Stage(asks_token=True)
        in_request, in_ping = stage.peer(), stage.peer().upgrade()
        in_request.feed(upgrade("/ws/bus?token=abc"))
        in_ping.send(ping("a", "abc"))
        for peer in (in_request, in_ping):
            stage.hub.events()
            peer.identify(verdict)
            assert self.refusals(stage) == [LoginRefused("192.0.2.1:40000", reason)]

    @pytest.mark.parametrize(
        ("verdict", "reason"),
        [
            (None, "the token is not valid"),
            (HttpResponse(503, b"x"), "the token could not be judged"),
            (BOB, "the token is that of another identity"),
        ],
    )
    def test_a_token_in_a_ping(self, verdict: Any, reason: str) -> None:
        stage = Stage(asks_token=True)
        peer = peer_of(stage, ALICE, "a")
        peer.send(ping("a", "token"))
        peer.identify(verdict)
        assert self.refusals(stage) == [LoginRefused("192.0.2.1:40000", reason)]

    def test_no_token(self) -> None:
        stage = Stage(asks_token=True)
        stage.peer().upgrade().ask(ping("a"))
        assert self.refusals(stage) == [LoginRefused("192.0.2.1:40000", "a token is needed")]

    def test_a_hook_that_says_no(self) -> None:
        stage = Stage(asks_upgrade=True)
        peer = stage.peer()
        peer.feed(upgrade())
        peer.decide(False)
        reason = "the program refused the upgrade"
        assert self.refusals(stage) == [LoginRefused("192.0.2.1:40000", reason)]

    def test_not_of_who_is_let_in(self) -> None:
        stage = Stage(asks_token=True)
        peer = stage.peer().upgrade()
        peer.send(ping("a", "token"))
        peer.identify(ALICE)
        assert self.refusals(stage) == []


class TestIds:
    def test_the_same_identity_takes_its_id_over(self) -> None:
        stage = Stage(asks_token=True)
        first = peer_of(stage, ALICE, "a")
        second = peer_of(stage, ALICE, "a")
        assert first.closed == (4001, "another connection took this id")
        assert stage.hub.clients == {"a": second.session}

    def refused(self, stage: Stage, identity: Identity, client_id: str) -> str:
        peer = stage.peer().upgrade()
        peer.send(ping(client_id, "token"))
        peer.identify(identity)
        (answer,) = peer.take()
        assert answer["action"] == "error"
        assert peer.session.id == ""
        return str(answer["error"])

    def test_another_identity_does_not(self) -> None:
        stage = Stage(asks_token=True)
        alice = peer_of(stage, ALICE, "a")
        assert self.refused(stage, BOB, "a") == "this id belongs to another client"
        assert stage.hub.clients == {"a": alice.session}
        assert alice.closed is None

    def test_nor_when_nobody_holds_it(self) -> None:
        stage = Stage(asks_token=True)
        peer_of(stage, ALICE, "a").connection.connection_lost(stage.clock.now)
        assert self.refused(stage, BOB, "a") == "this id belongs to another client"
        peer_of(stage, ALICE, "a")

    def test_nor_by_another_ping(self) -> None:
        stage = Stage(asks_token=True)
        peer_of(stage, ALICE, "a")
        bob = peer_of(stage, BOB, "b", proto=2)
        assert bob.ask(ping("a")) == [
            {
                "action": "error",
                "error": "this id belongs to another client",
                "code": "id_unavailable",
                "request": "ping",
            }
        ]
        assert bob.session.id == "b"

    def test_who_has_no_identity_takes_over_only_likewise(self) -> None:
        stage = Stage(asks_upgrade=True)

        def peer(verdict: Any) -> Peer:
            peer = stage.peer()
            peer.feed(upgrade())
            peer.decide(verdict)
            peer.read_upgrade()
            return peer

        first, second = peer(True), peer(True)
        first.ask(ping("a"))
        assert peer(ALICE).ask(ping("a"))[0]["action"] == "error"
        assert second.ask(ping("a")) == [{"action": "pong", "id": "a"}]
        assert first.closed is not None

    def test_only_those_that_it_may_use(self) -> None:
        stage = Stage(asks_token=True)
        identity = Identity("alice", Permissions(ids=["alice/*"]))
        assert self.refused(stage, identity, "bob") == "this client may not use this id"
        peer_of(stage, identity, "alice/1")

    def test_none_looks_like_that_of_another_server(self) -> None:
        stage = Stage(asks_token=True)
        reason = "an id of this form is that of another server"
        for foreign in ("wss://h/ws/bus", "x---ws://h:1/ws/bus"):
            assert self.refused(stage, ALICE, foreign) == reason
        peer_of(stage, Identity("server", Permissions(peer=True)), foreign)


def test_speaking_for_another_server_takes_a_permission() -> None:
    stage = Stage(asks_token=True)
    stage.hub.addresses.update({"here"})
    taken = stage.hub.local.subscriptions.open_server_data()
    message = {"action": "server-to-server", "to": "here", "data": {"topic": "t", "data": 1}}
    peer = peer_of(stage, ALICE, "a")
    assert peer.ask(message) == [
        {"action": "error", "error": "this client may not speak for another server"}
    ]
    assert not taken.take_all()
    server = peer_of(stage, Identity("s", Permissions(peer=True, publish=["t"])), "s")
    assert server.ask(message) == []
    assert len(taken.take_all()) == 1
    message["data"] = {"topic": "other"}
    assert server.ask(message)[0]["action"] == "error"
    assert not taken.take_all()
