"""Who may read the figures, and where."""

from typing import Any

import pytest

from kps.protocol.access.admission import read_networks
from kps.protocol.access.identity import Identity, NoIdentity, Permissions
from kps.protocol.server.config import HubConfig
from kps.protocol.server.events import LoginRefused, TokenPresented
from kps.protocol.server.hub import Hub
from kps.protocol.server_limits import ServerLimits
from kps.protocol.wire.http import Answer as GiveAnswer
from kps.protocol.wire.http import HttpRequest, HttpResponse
from kps.testing.network import ManualClock
from tests.protocol.helpers import Answer, Peer, request, upgrade

HERE, LOCAL = "127.0.0.1:5000", "localhost:9313"
OPERATOR = Identity("ops", Permissions(console=True))


class Scraped:
    """A hub whose figures are a text, which it shows on the port of the bus too."""

    def __init__(
        self, *, limits: ServerLimits | None = None, has_metrics: bool = True, **config: Any
    ) -> None:
        self.clock = ManualClock()
        self.asked: list[HttpRequest] = []
        config = {"shows_metrics": True} | config
        self.hub = Hub(
            HubConfig(id="server", limits=limits or ServerLimits(), **config),
            new_id=lambda: "generated-1",
            now=self.clock.now,
            metrics=self._answer if has_metrics else None,
        )

    def _answer(self, request: HttpRequest, answer: GiveAnswer) -> None:
        self.asked.append(request)
        answer(HttpResponse(200, b"figures", "text/plain"))

    def connect(self, peer: str = HERE, *, is_operator: bool = False) -> Any:
        connection = self.hub.connect(peer, self.clock.now, is_operator=is_operator)
        self.hub.take_unflushed()
        return connection

    def ask(
        self,
        *headers: tuple[str, str],
        peer: str = HERE,
        host: str = LOCAL,
        target: str = "/metrics",
        method: str = "GET",
        is_operator: bool = False,
    ) -> Any:
        """Ask for the figures; return the connection."""
        connection = self.connect(peer, is_operator=is_operator)
        text = request(target, method=method, headers=[("Host", host), *headers])
        connection.receive_data(text, self.clock.now)
        return connection

    def status(self, *headers: tuple[str, str], **options: Any) -> int:
        return Answer(self.ask(*headers, **options).data_to_send()).status

    def judge(self, connection: Any, verdict: object) -> Answer:
        self.hub.judge(connection.number, verdict, self.clock.now)
        return Answer(connection.data_to_send())


class TestWithoutIdentities:
    @pytest.mark.parametrize("peer", [HERE, "127.8.0.1:1", "[::1]:80", "[::ffff:127.0.0.1]:5"])
    @pytest.mark.parametrize("host", [LOCAL, "localhost", "127.0.0.1:9313", "[::1]:9313"])
    def test_this_machine_may_read_them(self, peer: str, host: str) -> None:
        assert Scraped().status(peer=peer, host=host) == 200

    @pytest.mark.parametrize("peer", ["192.0.2.1:5000", "[2001:db8::1]:80", "", "unknown"])
    def test_others_may_not(self, peer: str) -> None:
        scraped = Scraped()
        assert scraped.status(peer=peer) == 403
        assert not scraped.asked

    @pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
    def test_who_comes_by_a_proxy_of_this_machine_may_not(self, name: str) -> None:
        assert Scraped().status((name, "127.0.0.1")) == 403
        known = Scraped(proxies=read_networks(["127.0.0.1"]))
        assert known.status((name, "127.0.0.1")) == 403
        assert known.status() == 200

    @pytest.mark.parametrize("host", ["evil.example:9313", "localhost.evil.example", "", "bus"])
    def test_a_page_that_gives_this_machine_another_name_may_not(self, host: str) -> None:
        assert Scraped().status(host=host) == 403

    def test_nobody_may_if_the_console_is_forbidden(self) -> None:
        assert Scraped(permissions=Permissions()).status() == 403

    def test_they_are_off_unless_asked_for(self) -> None:
        assert Scraped(shows_metrics=False).status() == 404
        assert Scraped(has_metrics=False).status() == 404

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
    def test_other_methods(self, method: str) -> None:
        assert Scraped().status(method=method) == 404

    def test_a_head_has_no_body(self) -> None:
        answer = Answer(Scraped().ask(method="HEAD").data_to_send(), method="HEAD")
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-length"] == "7"


class TestWithIdentities:
    def test_a_token_is_needed_also_on_this_machine(self) -> None:
        answer = Answer(Scraped(asks_token=True).ask().data_to_send())
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"

    def test_the_hook_is_asked(self) -> None:
        scraped = Scraped(asks_token=True)
        connection = scraped.ask(("Authorization", "Bearer secret"), peer="192.0.2.1:7")
        assert scraped.hub.events() == [TokenPresented(connection.number, "secret", "192.0.2.1:7")]
        assert connection.data_to_send() == b""
        assert connection.wants_pause
        assert not scraped.asked
        answer = scraped.judge(connection, OPERATOR)
        assert (answer.status, answer.body) == (200, b"figures")
        assert scraped.hub.state.stats.connections == 0

    @pytest.mark.parametrize(
        ("verdict", "status"),
        [
            (Identity("x"), 403),
            (Identity("x", Permissions.open(console=False)), 403),
            (None, 401),
            (Identity("x", Permissions(console=True), lifetime=0), 401),
            (NoIdentity("exp: the token has expired"), 401),
            (True, 401),
            (HttpResponse.text(503, "later"), 503),
        ],
    )
    def test_whom_the_hook_does_not_let_in(self, verdict: object, status: int) -> None:
        scraped = Scraped(asks_token=True)
        connection = scraped.ask(("Authorization", "Bearer secret"))
        scraped.hub.events()
        assert scraped.judge(connection, verdict).status == status
        assert not scraped.asked
        refused = [one for one in scraped.hub.events() if isinstance(one, LoginRefused)]
        assert len(refused) == (status == 401)
        if isinstance(verdict, NoIdentity):
            why = "exp: the token has expired"
            assert refused == [LoginRefused(HERE, "the token is not valid", why)]

    def test_a_hook_that_takes_too_long(self) -> None:
        scraped = Scraped(asks_token=True, limits=ServerLimits(handshake_timeout=5))
        connection = scraped.ask(("Authorization", "Bearer secret"))
        scraped.clock.advance(6)
        scraped.hub.handle_timeout(scraped.clock.now)
        assert Answer(connection.data_to_send()).status == 503
        scraped.hub.judge(connection.number, OPERATOR, scraped.clock.now)
        assert connection.data_to_send() == b""

    def test_a_verdict_on_a_connection_that_is_gone(self) -> None:
        scraped = Scraped(asks_token=True)
        connection = scraped.ask(("Authorization", "Bearer secret"))
        connection.connection_lost(scraped.clock.now)
        scraped.hub.judge(connection.number, OPERATOR, scraped.clock.now)
        assert not scraped.asked
        assert scraped.hub.connections == {}

    def test_a_server_that_stops_meanwhile(self) -> None:
        scraped = Scraped(asks_token=True)
        connection = scraped.ask(("Authorization", "Bearer secret"))
        scraped.hub.shutdown(1.0, scraped.clock.now)
        assert Answer(connection.data_to_send()).status == 503

    def test_who_waits_counts_for_its_address(self) -> None:
        limits = ServerLimits(max_connections_per_address=1)
        scraped = Scraped(asks_token=True, limits=limits, proxies=read_networks(["127.0.0.1"]))
        fields = ("Authorization", "Bearer secret"), ("X-Forwarded-For", "192.0.2.1")
        scraped.ask(*fields)
        assert scraped.status(*fields) == 503
        assert len(scraped.hub.events()) == 1


class TestPortForOperators:
    @pytest.mark.parametrize("asks_token", [False, True])
    @pytest.mark.parametrize("peer", [HERE, "192.0.2.1:5000"])
    def test_whoever_reaches_it_may_read_them(self, peer: str, asks_token: bool) -> None:
        scraped = Scraped(shows_metrics=False, asks_token=asks_token)
        assert scraped.status(peer=peer, host="bus.example", is_operator=True) == 200
        assert scraped.status(peer=peer, target="/healthz", is_operator=True) == 200

    def test_it_has_nothing_else(self) -> None:
        pages = {"/": HttpResponse(200, b"", headers=(("etag", '"x"'),))}
        scraped = Scraped(pages=pages)
        assert scraped.status(target="/") == 200
        assert scraped.status(target="/", is_operator=True) == 404
        for target in ("/ws/bus", "/"):
            connection = scraped.connect(is_operator=True)
            connection.receive_data(upgrade(target), scraped.clock.now)
            assert Answer(connection.data_to_send()).status == 404

    def test_it_answers_while_the_server_is_full(self) -> None:
        limits = ServerLimits(max_connections=1, max_connections_per_address=1)
        scraped = Scraped(limits=limits)
        peer = Peer(scraped.hub, scraped.clock, HERE).register("a")
        assert scraped.status() == 503
        assert scraped.status(is_operator=True) == 200
        peer.connection.connection_lost(scraped.clock.now)

    def test_its_own_places_are_bounded_and_become_free(self) -> None:
        scraped = Scraped()
        waiting = [scraped.connect(is_operator=True) for _ in range(64)]
        assert scraped.status(is_operator=True) == 503
        assert scraped.status() == 200  # the bus has its own
        for connection in waiting:
            connection.connection_lost(scraped.clock.now)
        assert scraped.status(is_operator=True) == 200


FOREIGN = ("Origin", "http://localhost:8000")


class TestPagesOfOtherOrigins:
    """They may ask why they may not connect, and read nothing else."""

    def answer(self, *headers: tuple[str, str], **options: Any) -> Answer:
        hub = Scraped(origins=("https://friend.example",), pages={"/kps.js": HttpResponse(200)})
        method = options.get("method", "GET")
        return Answer(hub.ask(*headers, **options).data_to_send(), method=method)

    def test_are_told_what_to_do(self) -> None:
        answer = self.answer(FOREIGN, target="/ws/bus?x=1")
        assert answer.status == 403
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.body.startswith(b"pages of http://localhost:8000 may not connect: ")
        assert len(answer.body.splitlines()) == 1

    def test_are_refused_when_they_connect(self) -> None:
        scraped = Scraped()
        connection = scraped.connect()
        connection.receive_data(upgrade(changed={"origin": FOREIGN[1]}), scraped.clock.now)
        answer = Answer(connection.data_to_send())
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers

    def test_a_head_has_no_body(self) -> None:
        answer = self.answer(FOREIGN, target="/ws/bus", method="HEAD")
        assert (answer.status, answer.body) == (403, b"")

    @pytest.mark.parametrize("method", ["POST", "OPTIONS", "PUT"])
    def test_may_only_ask(self, method: str) -> None:
        answer = self.answer(FOREIGN, target="/ws/bus", method=method)
        assert answer.status == 404
        assert "access-control-allow-origin" not in answer.headers

    @pytest.mark.parametrize("target", ["/", "/healthz", "/metrics", "/kps.js", "/elsewhere"])
    def test_read_nothing_else(self, target: str) -> None:
        answer = self.answer(FOREIGN, target=target)
        assert "access-control-allow-origin" not in answer.headers
        assert b"may not connect" not in answer.body

    @pytest.mark.parametrize("origin", [None, "https://friend.example", f"http://{LOCAL}"])
    def test_who_may_connect_gets_what_it_got(self, origin: str | None) -> None:
        headers = [] if origin is None else [("Origin", origin)]
        answer = self.answer(*headers, target="/ws/bus")
        assert answer.status == 404
        assert "access-control-allow-origin" not in answer.headers

    @pytest.mark.parametrize("target", ["/ws/bus", "http://bus", "http://bus/"])
    def test_learn_nothing_from_the_port_for_operators(self, target: str) -> None:
        answer = self.answer(FOREIGN, target=target, is_operator=True)
        assert answer.status == 404
        assert "access-control-allow-origin" not in answer.headers
