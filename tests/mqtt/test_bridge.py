"""A bridge between a server and a real broker."""

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

import kps
from kps.mqtt.broker import BrokerFailed
from tests.mqtt.harness import (
    PATIENCE,
    account,
    bridged,
    broker,
    needs_broker,
    peer,
    run,
    server,
    until,
)

pytestmark = needs_broker


class Taken:
    """What a callback gets."""

    def __init__(self) -> None:
        self.messages: list[kps.Message] = []

    async def __call__(self, message: kps.Message) -> None:
        self.messages.append(message)

    @property
    def data(self) -> list[Any]:
        return [message.data for message in self.messages]


def refused(figures: dict[str, Any]) -> dict[str, int]:
    assert figures["came"] == figures["passed"] + sum(figures["not_passed"].values())
    found: dict[str, int] = figures["not_passed"]
    return found


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_both_ways(tmp_path: Path, version: str) -> None:
    async def work() -> None:
        with broker(tmp_path) as there, peer(there.port) as sensor:
            async with server() as here:
                taken = Taken()
                await here.subscribe(kps.Pattern("hall/**"), taken)
                ins = [{"filter": "sensors/#", "strip": "sensors/", "add": "hall/"}]
                outs = [{"pattern": "commands/**", "retain": True}]
                async with bridged(
                    here.url, there.url, ins=ins, outs=outs, mqtt_version=version
                ) as bridge:
                    sensor.subscribe("commands/#")
                    for payload in (b'{"t": 20.5}', b"on", b"\xff\0"):
                        sensor.publish("sensors/a b.c", payload)
                    sensor.publish("sensors/q0", b"[]", qos=0)
                    await until(lambda: len(taken.messages) == 4)
                    assert taken.data == [{"t": 20.5}, "on", {"$base64": "/wA="}, []]
                    assert taken.messages[0].topic == "hall/a b.c"
                    async with kps.Client(here.url, id="boss") as boss:
                        ack = await boss.publish_with_ack("commands/lamp 1", {"on": True}, PATIENCE)
                        assert (await ack.wait())["mqtt-bridge"].success
                        await boss.publish("commands/lamp 1", kps.pack_bytes(b"\xff"))
                    await until(lambda: len(sensor.got) == 2)
                    assert sensor.got[0].topic == "commands/lamp 1"
                    assert sensor.payloads() == [b'{"on":true}', b"\xff"]
                    with peer(there.port, "late") as late:
                        late.subscribe("commands/#")
                        await until(lambda: bool(late.got))
                        assert (late.got[0].payload, late.got[0].retain) == (b"\xff", True)
                assert refused(account(bridge, "in sensors/#")) == {}
                assert refused(account(bridge, "out commands/**")) == {}

    run(work())


def test_the_publisher_learns_what_does_not_pass(tmp_path: Path) -> None:
    async def work() -> None:
        with broker(tmp_path) as there:
            async with server() as here:
                outs: list[dict[str, Any]] = [
                    {"pattern": "a/**", "format": "text"},
                    {"pattern": "b/**", "qos": 0},
                ]
                async with bridged(here.url, there.url, outs=outs) as bridge:

                    async def outcome(topic: str, data: Any) -> str | None:
                        ack = await boss.publish_with_ack(topic, data, PATIENCE)
                        return (await ack.wait())["mqtt-bridge"].error

                    async with kps.Client(here.url) as boss:
                        assert await outcome("a/+", "x") == "a topic of MQTT has no + and no #"
                        assert await outcome("a/1", 1) == "the payload is no text"
                        assert await outcome("a/1", "x") is None
                        assert await outcome("b/1", 1) is None
                        there.stop()
                        await until(lambda: bool(bridge.books.events))
                        assert await outcome("b/1", 1) == "the broker is away"
                        there.start()
                assert refused(account(bridge, "out a/**")) == {"wildcard": 1, "not_text": 1}
                assert refused(account(bridge, "out b/**")) == {"broker_away": 1}

    run(work())


def test_acks_of_the_bus_decide(tmp_path: Path) -> None:
    """Over MQTT 5 the broker passes no reason on, so the books tell what it was answered."""

    async def work() -> None:
        with broker(tmp_path) as there, peer(there.port) as sensor:
            async with server() as here:
                failing = True
                seen: list[Any] = []

                async def handle(message: kps.Message) -> None:
                    seen.append(message.data)
                    if failing:
                        raise ValueError("no paper")

                await here.subscribe("refuse", handle)
                await here.subscribe("take", handle)
                await here.subscribe("again", handle)
                ins = [
                    {"filter": "refuse", "acks": True, "failed": "refuse"},
                    {"filter": "take", "acks": True, "failed": "take"},
                    {"filter": "again", "acks": True, "failed": "again"},
                    {"filter": "lonely/refuse", "acks": True, "nobody": "refuse"},
                    {"filter": "lonely/take", "acks": False, "nobody": "take"},
                ]
                async with bridged(here.url, there.url, ins=ins) as bridge:
                    for rule in ins:
                        sensor.publish(str(rule["filter"]), b"1")
                    await until(lambda: account(bridge, "in again").get("retries", 0) > 0)
                    failing = False
                    await until(lambda: account(bridge, "in again")["passed"] == 1)
                    await until(lambda: account(bridge, "in lonely/take")["passed"] == 1)
                assert refused(account(bridge, "in refuse")) == {"failed": 1}
                assert refused(account(bridge, "in take")) == {}
                assert refused(account(bridge, "in lonely/refuse")) == {"nobody": 1}
                assert refused(account(bridge, "in lonely/take")) == {}

    run(work())


def test_nobody_is_waited_for_until_somebody_comes(tmp_path: Path) -> None:
    async def work() -> None:
        with broker(tmp_path) as there, peer(there.port) as sensor:
            async with server() as here:
                ins = [{"filter": "a", "nobody": "again"}]
                outs = [
                    {"pattern": "*"}
                ]  # so the bridge itself is subscribed, which does not count
                async with bridged(here.url, there.url, ins=ins, outs=outs) as bridge:
                    sensor.publish("a", b"1")
                    await until(lambda: account(bridge, "in a").get("retries", 0) > 0)
                    taken = Taken()
                    await here.subscribe("a", taken)
                    await until(lambda: taken.data == [1])
                    await until(lambda: account(bridge, "in a")["passed"] == 1)
                assert set(refused(account(bridge, "out *"))) == {"own"}

    run(work())


def test_what_does_not_come_in(tmp_path: Path) -> None:
    async def work() -> None:
        with broker(tmp_path) as there, peer(there.port) as sensor:
            async with kps.Server("127.0.0.1:0", limits=kps.ServerLimits(max_message=4096)) as here:
                taken = Taken()
                await here.subscribe(kps.Pattern("**"), taken)
                ins: list[dict[str, Any]] = [
                    {"filter": "json/#", "format": "json"},
                    {"filter": "big/#", "format": "text"},
                    {"filter": "top/+", "strip": "top/"},
                ]
                async with bridged(here.url, there.url, ins=ins, max_packet=10_000) as bridge:
                    sensor.publish("json/1", b"{")
                    sensor.publish("big/bus", b"x" * 5000)
                    sensor.publish("big/bus", b"x" * 5000, qos=0)
                    sensor.publish("big/bridge", b"x" * 3_000_000)
                    sensor.publish("top/__stats", b"1")
                    sensor.publish("top/" + "t" * 257, b"1")
                    sensor.publish("big/ok", b"x" * 3000)
                    await until(lambda: len(taken.messages) == 1)
                    assert taken.messages[0].topic == "big/ok"
                    await until(lambda: account(bridge, "in top/+")["came"] == 2)
                assert refused(account(bridge, "in json/#")) == {"not_json": 1}
                assert refused(account(bridge, "in big/#")) == {"too_large": 3}
                assert refused(account(bridge, "in top/+")) == {"reserved": 1, "topic_long": 1}

    run(work())


def test_large_messages_pass(tmp_path: Path) -> None:
    async def work() -> None:
        with broker(tmp_path) as there, peer(there.port) as sensor:
            limits = kps.ServerLimits(max_message=4 * 1024 * 1024)
            async with kps.Server("127.0.0.1:0", limits=limits) as here:
                taken = Taken()
                await here.subscribe("in", taken)
                ins, outs = [{"filter": "in"}], [{"pattern": "out"}]
                async with bridged(here.url, there.url, ins=ins, outs=outs):
                    sensor.subscribe("out")
                    large = bytes(range(256)) * 8000
                    for _ in range(20):
                        sensor.publish_soon("in", large)
                        await here.publish("out", kps.pack_bytes(large))
                    await until(lambda: len(taken.messages) == len(sensor.got) == 20)
                    assert all(kps.unpack_bytes(data) == large for data in taken.data)
                    assert sensor.payloads() == [large] * 20

    run(work())


def test_what_the_broker_does_not_take(tmp_path: Path) -> None:
    async def work() -> None:
        with broker(tmp_path, "allow_anonymous true\nmax_packet_size 5000") as there:
            async with server() as here, kps.Client(here.url) as boss:
                async with bridged(here.url, there.url, outs=[{"pattern": "out"}]) as bridge:
                    ack = await boss.publish_with_ack("out", "x" * 6000, PATIENCE)
                    outcome = (await ack.wait())["mqtt-bridge"]
                    assert outcome.error == "it is larger than the broker takes"
                assert refused(account(bridge, "out out")) == {"too_large": 1}

    run(work())


class TestRetained:
    @pytest.mark.parametrize("version", ["5", "3.1.1"])
    def test_once(self, tmp_path: Path, version: str) -> None:
        """A new bridge gets them; after a reconnect only what has changed comes."""

        async def work() -> None:
            with broker(tmp_path) as there:
                async with server() as here:
                    taken = Taken()
                    await here.subscribe(kps.Pattern("**"), taken)
                    with peer(there.port) as sensor:
                        sensor.publish("s/1", b"1", retain=True)
                        sensor.publish("s/2", b"2", retain=True)
                    ins = [{"filter": "s/#"}]
                    options: dict[str, Any] = {"mqtt_version": version, "session_expiry": 0}
                    async with bridged(here.url, there.url, ins=ins, **options) as bridge:
                        await until(lambda: sorted(taken.data) == [1, 2])
                        there.stop()
                        await until(lambda: bool(bridge.books.events))
                        there.start()
                        figures = bridge.books.account("in s/#")
                        await until(lambda: figures.not_passed["retained_again"] == 2)
                        with peer(there.port) as sensor:
                            sensor.publish("s/1", b"1", retain=True)  # no old one: it is new
                            await until(lambda: len(taken.messages) == 3)

        run(work())

    def test_a_kept_session_brings_none_again(self, tmp_path: Path) -> None:
        async def work() -> None:
            with broker(tmp_path) as there, peer(there.port) as sensor:
                async with server() as here:
                    taken = Taken()
                    await here.subscribe(kps.Pattern("**"), taken)
                    sensor.publish("s/1", b"1", retain=True)
                    for number in (1, 2, 3):
                        async with bridged(here.url, there.url, ins=[{"filter": "s/#"}]):
                            sensor.publish("s/2", b"%d" % number)
                            await until(lambda number=number: number in taken.data[1:])  # type: ignore[misc]
                    assert sorted(taken.data) == [1, 1, 2, 3]

        run(work())

    def test_always_and_never(self, tmp_path: Path) -> None:
        async def work() -> None:
            with broker(tmp_path) as there, peer(there.port) as sensor:
                async with server() as here:
                    taken = Taken()
                    await here.subscribe(kps.Pattern("**"), taken)
                    sensor.publish("a/1", b"1", retain=True)
                    sensor.publish("n/1", b"2", retain=True)
                    ins = [
                        {"filter": "a/#", "retained": "always"},
                        {"filter": "n/#", "retained": "never"},
                    ]
                    for number in (1, 2):
                        async with bridged(here.url, there.url, ins=ins):
                            await until(lambda number=number: taken.data == [1] * number)  # type: ignore[misc]
                    options: dict[str, Any] = {"mqtt_version": "3.1.1", "id": "other"}
                    async with bridged(here.url, there.url, ins=ins, **options) as bridge:
                        await until(lambda: account(bridge, "in n/#")["came"] == 1)
                        await until(lambda: taken.data == [1] * 3)
                    assert refused(account(bridge, "in n/#")) == {"retained": 1}

        run(work())

    def test_a_deletion_passes(self, tmp_path: Path) -> None:
        async def work() -> None:
            with broker(tmp_path) as there, peer(there.port) as sensor:
                async with server() as here, kps.Client(here.url) as boss:
                    taken = Taken()
                    await here.subscribe(kps.Pattern("in/**"), taken)
                    outs = [{"pattern": "out/**", "retain": True}]
                    ins = [{"filter": "in/#"}]
                    async with bridged(here.url, there.url, ins=ins, outs=outs) as bridge:
                        sensor.publish("in/1", b"1", retain=True)
                        sensor.publish("in/1", b"", retain=True)
                        await until(lambda: taken.data == [1, None])
                        for data in ("on", None):
                            ack = await boss.publish_with_ack("out/1", data, PATIENCE)
                            assert (await ack.wait())["mqtt-bridge"].success
                        await boss.publish("out/2", "on")
                        await until(lambda: account(bridge, "out out/**")["came"] == 3)
                    with peer(there.port, "late") as late:
                        late.subscribe("out/#")
                        await until(lambda: bool(late.got))
                        assert [one.topic for one in late.got] == ["out/2"]

        run(work())


class TestRights:
    def test_a_wrong_password_ends_it(self, tmp_path: Path) -> None:
        async def work() -> None:
            with broker(tmp_path, "allow_anonymous false") as there:
                async with server() as here:
                    url = there.url.replace("//", "//me:secret@")
                    with pytest.raises(BrokerFailed, match="not authorized") as raised:
                        async with bridged(here.url, url, ins=[{"filter": "a"}]):
                            pass
                    assert "secret" not in str(raised.value)

        run(work())

    def test_what_the_broker_forbids(self, tmp_path: Path) -> None:
        acl = tmp_path / "acl"
        acl.write_text("topic readwrite ok/#\n")

        async def work() -> None:
            with broker(tmp_path, f"allow_anonymous true\nacl_file {acl}") as there:
                async with server() as here, kps.Client(here.url) as boss:
                    outs = [{"pattern": "**"}]
                    async with bridged(here.url, there.url, outs=outs) as bridge:
                        ack = await boss.publish_with_ack("secret", 1, PATIENCE)
                        outcome = (await ack.wait())["mqtt-bridge"]
                        assert outcome.error == "the broker refuses it: not authorized"
                        ack = await boss.publish_with_ack("ok/1", 1, PATIENCE)
                        assert (await ack.wait())["mqtt-bridge"].success
                    assert refused(account(bridge, "out **")) == {"broker_refused": 1}

        run(work())

    def test_what_the_bus_forbids(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        rights = kps.Permissions.open(publish=["ok/**"], subscribe=["ok/**"])

        async def work() -> None:
            with broker(tmp_path) as there, peer(there.port) as sensor:
                async with kps.Server("127.0.0.1:0", permissions=rights) as here:
                    ins = [{"filter": "p/#", "strip": "p/", "add": "b/"}, {"filter": "ok/#"}]
                    async with bridged(here.url, there.url, ins=ins) as bridge:
                        sensor.publish("p/secret", b"1")
                        sensor.publish("ok/1", b"1")
                        await until(lambda: account(bridge, "in p/#")["came"] == 1)
                        await until(lambda: not account(bridge, "in p/#")["under_way"])
                        await until(lambda: account(bridge, "in ok/#")["passed"] == 1)
                    assert refused(account(bridge, "in p/#")) == {"forbidden": 1}
                    line = "a message of 'p/secret' as 'b/secret' does not pass (forbidden): "
                    assert line in caplog.text
                    with pytest.raises(kps.KPSError, match="the bus refuses the pattern"):
                        async with bridged(here.url, there.url, outs=[{"pattern": "secret"}]):
                            pass

        run(work())


def test_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    chain = authority.issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(b"".join(one.bytes() for one in chain.cert_chain_pems))
    key.write_bytes(chain.private_key_pem.bytes())
    more = f"allow_anonymous true\ncertfile {cert}\nkeyfile {key}"

    async def work() -> None:
        with broker(tmp_path, more) as there:
            async with server() as here, kps.Client(here.url) as boss:
                url = there.url.replace("mqtt:", "mqtts:")
                trusting = ssl.create_default_context()
                authority.configure_trust(trusting)
                async with bridged(here.url, url, tls=trusting, outs=[{"pattern": "a"}]):
                    ack = await boss.publish_with_ack("a", 1, PATIENCE)
                    assert (await ack.wait())["mqtt-bridge"].success

    run(work())


def test_figures_are_published(tmp_path: Path) -> None:
    async def work() -> None:
        with broker(tmp_path) as there, peer(there.port) as sensor:
            async with server() as here:
                taken = Taken()
                await here.subscribe("figures", taken)
                options: dict[str, Any] = {"figures_topic": "figures", "figures_every": 0.05}
                async with bridged(here.url, there.url, ins=[{"filter": "a"}], **options):
                    sensor.publish("a", b"1")

                    def rules() -> dict[str, Any]:
                        return taken.data[-1]["rules"] if taken.data else {}

                    await until(lambda: rules().get("in a", {}).get("passed") == 1)
                    assert rules() == {
                        "in a": {"came": 1, "passed": 1, "not_passed": {}, "under_way": 0}
                    }

    run(work())
