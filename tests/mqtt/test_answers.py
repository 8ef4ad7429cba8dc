"""What a broker is answered, and what becomes of one that refuses, or is silent."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import pytest

import kps
from kps.mqtt.broker import BrokerFailed
from kps.mqtt.core import packets
from kps.mqtt.core.packets import V3, V5, Publish
from tests.mqtt.harness import account, bridged, run, server, until


class Broker:
    """A broker that does as it is told. It knows no topics."""

    def __init__(self, *, speaks_5: bool = True, granted: int = 1, told: bytes = b"\x00") -> None:
        self._speaks_5 = speaks_5
        self._granted = granted
        self._told = told
        self.versions: list[int] = []
        """Those with which clients have tried."""
        self.pubacks: list[tuple[int, int]] = []
        self.others: list[int] = []
        """The kinds of the other packets."""
        self.acknowledges = True
        self.is_present = False
        self.is_silent = False
        self.is_closing = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"mqtt://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()

    def send(self, *messages: Publish) -> None:
        for message in messages:
            self._writer.write(packets.publish(self.versions[-1], message))

    def cut(self) -> None:
        if hasattr(self, "_writer"):
            self._writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        try:
            while True:
                head = (await reader.readexactly(1))[0]
                size, shift, byte = 0, 0, 0x80
                while byte >= 0x80:
                    byte = (await reader.readexactly(1))[0]
                    size |= (byte & 0x7F) << shift
                    shift += 7
                self._take(head, await reader.readexactly(size), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _take(self, head: int, body: bytes, writer: asyncio.StreamWriter) -> None:
        match head >> 4:
            case 1:
                version = body[6]
                self.versions.append(version)
                if self.is_silent:
                    return
                if version == V5 and not self._speaks_5:
                    writer.write(b"\x20\x02\x00\x01")
                    writer.close()
                    return
                told = self._told if version == V5 else b""
                writer.write(bytes((0x20, 2 + len(told), self.is_present, 0)) + told)
                if self.is_closing:
                    writer.close()
            case 3 if self.acknowledges and head & 2:
                name = int.from_bytes(body[:2])
                writer.write(b"\x40\x02" + body[2 + name : 4 + name])
            case 4:
                self.pubacks.append((int.from_bytes(body[:2]), body[2] if len(body) > 2 else 0))
            case 8:
                version = self.versions[-1]
                middle = b"\x00" if version == V5 else b""
                count = body.count(b"/#")
                answer = body[:2] + middle + bytes((self._granted,)) * max(count, 1)
                writer.write(bytes((0x90, len(answer))) + answer)
        self.others.append(head >> 4)


def messages(*topics: str, payload: bytes = b"1") -> Sequence[Publish]:
    return [Publish(topic, payload, 1, pid=pid) for pid, topic in enumerate(topics, 1)]


def test_a_broker_of_mqtt_5_learns_why() -> None:
    rights = kps.Permissions.open(publish=["a/**", "b/**"])

    async def work() -> None:
        async with Broker() as there, kps.Server("127.0.0.1:0", permissions=rights) as here:

            async def fail(message: kps.Message[Any]) -> None:
                raise ValueError("no paper")

            await here.subscribe("b/fails", fail)
            await here.subscribe("a/taken", lambda message: None)
            ins: list[dict[str, Any]] = [
                {"filter": "a/#"},
                {"filter": "b/#", "acks": True, "nobody": "refuse"},
                {"filter": "c/#", "format": "json"},
            ]
            async with bridged(here.url, there.url, ins=ins):
                there.send(
                    *messages("a/taken", "a/lonely", "b/fails", "b/lonely", "c/1", "a/" + "x" * 260)
                )
                there.send(Publish("c/2", b"{", 1, pid=7), Publish("d", b"", 1, pid=8))
                await until(lambda: len(there.pubacks) == 8)
                assert there.pubacks == [
                    (1, 0),
                    (2, 0x10),
                    (3, 0x83),
                    (4, 0x83),
                    (5, 0x87),
                    (6, 0x90),
                    (7, 0x99),
                    (8, 0x83),
                ]

    run(work())


def test_acknowledged_is_what_the_bus_has_taken() -> None:
    """And what comes again after a cut, while it is under way, is given to the bus once."""

    async def work() -> None:
        async with Broker() as there, server() as here:
            seen: list[Any] = []
            may_end = asyncio.Event()

            async def take(message: kps.Message[Any]) -> None:
                seen.append(message.data)
                await may_end.wait()

            await here.subscribe("a/1", take)
            ins = [{"filter": "a/#", "acks": True, "timeout": 60.0}]
            async with bridged(here.url, there.url, ins=ins) as bridge:
                there.send(Publish("a/1", b"1", 1, pid=3))
                await until(lambda: seen == [1])
                assert there.pubacks == []
                there.is_present = True
                there.cut()
                await until(lambda: len(there.versions) == 2)
                await asyncio.sleep(0)
                there.send(Publish("a/1", b"1", 1, dup=True, pid=3))
                await until(lambda: bridge.books.events["sent again by the broker"] == 1)
                may_end.set()
                await until(lambda: there.pubacks == [(3, 0)])
                assert account(bridge, "in a/#")["passed"] == 1
                assert there.others.count(8) == 1  # the broker has kept the subscription
            assert seen == [1]

    run(work())


def test_reading_stops_while_the_bus_takes_nothing() -> None:
    async def work() -> None:
        async with Broker() as there:
            here = server()
            await here.start()
            address = here.address
            ins = [{"filter": "a/#"}]
            async with bridged(here.url, there.url, ins=ins, window=5) as bridge:
                await here.stop(0.0)
                many = 40
                sent = [Publish("a/1", b"x" * 1_000_000, 1, pid=pid) for pid in range(1, many + 1)]
                there.send(*sent)
                inward = bridge._in
                await until(lambda: not bridge._link._is_reading)
                assert inward._bytes < 24 * 1024 * 1024
                assert there.pubacks == []
                limits = kps.ServerLimits(max_message=2 * 1024 * 1024)
                async with kps.Server(address, limits=limits):
                    await until(lambda: len(there.pubacks) == many)
                    assert [pid for pid, _ in there.pubacks] == list(range(1, many + 1))
            assert account(bridge, "in a/#")["passed"] == many

    run(work())


def test_properties_count_among_what_waits() -> None:
    async def work() -> None:
        async with Broker() as there:
            here = server()
            await here.start()
            ins = [{"filter": "a/#"}]
            async with bridged(here.url, there.url, ins=ins, window=1, grace=0.05) as bridge:
                await here.stop(0.0)
                large = (("name", "x" * 60_000),) * 17
                there.send(*(Publish("a/1", b"1", 1, pid=pid, user=large) for pid in range(1, 30)))
                await until(lambda: not bridge._link._is_reading)

    run(work())


def test_no_more_goes_out_than_the_broker_acknowledges() -> None:
    async def work() -> None:
        async with Broker() as there, server() as here, kps.Client(here.url) as boss:
            there.acknowledges = False
            outs = [{"pattern": "a"}]
            async with bridged(here.url, there.url, outs=outs, window=3, grace=0.1) as bridge:
                acks = [await boss.publish_with_ack("a", number, 60.0) for number in range(5)]
                # Three are at the broker, one waits for room, and one waits behind it.
                await until(lambda: there.others.count(3) == 3)
                await until(lambda: account(bridge, "out a")["came"] == 4)
                mailbox = bridge._out._subscriptions["out a"]._mailbox
                await until(lambda: mailbox.unhandled == 1)
                assert there.others.count(3) == 3
            outcomes = [(await ack.wait())["mqtt-bridge"].error for ack in acks]
            assert outcomes[:3] == ["the bridge has ended, and the broker has not answered"] * 3
            assert None not in outcomes
            assert account(bridge, "out a")["not_passed"] == {"at_end": 5}

    run(work())


@pytest.mark.parametrize(
    ("options", "rules", "text"),
    [
        (
            {"granted": 0x87},
            {"ins": [{"filter": "a/#"}]},
            "refuses the filter 'a/#': not authorized",
        ),
        ({"granted": 0}, {"ins": [{"filter": "a/#"}]}, "the filter 'a/#' QoS 0 only"),
        ({"told": b"\x02\x24\x00"}, {"outs": [{"pattern": "a"}]}, "QoS 0 only"),
        (
            {"told": b"\x02\x25\x00"},
            {"outs": [{"pattern": "a", "retain": True}]},
            "retains nothing",
        ),
    ],
)
def test_a_broker_that_is_not_fit(options: Any, rules: Any, text: str) -> None:
    async def work() -> None:
        async with Broker(**options) as there, server() as here:
            with pytest.raises(BrokerFailed, match=text):
                async with bridged(here.url, there.url, **rules):
                    pass

    run(work())


def test_an_old_broker_is_spoken_to_in_its_version() -> None:
    async def work() -> None:
        async with Broker(speaks_5=False) as there, server() as here:
            async with bridged(here.url, there.url, ins=[{"filter": "a/#", "nobody": "refuse"}]):
                assert there.versions == [V5, V3]
                there.send(*messages("a/1"))
                await until(lambda: there.pubacks == [(1, 0)])  # it has no codes
                there.cut()
                await until(lambda: len(there.versions) == 3)
                assert there.versions[-1] == V3

    run(work())


def test_a_broker_that_does_not_answer_is_tried_again() -> None:
    async def work() -> None:
        async with Broker() as there, server() as here:
            there.is_silent = True
            async with bridged(
                here.url, there.url, is_ready=False, ins=[{"filter": "a"}]
            ) as bridge:
                session = bridge._link.session
                session.config = replace(session.config, answer_timeout=0.05)
                await until(lambda: len(there.versions) == 3)
                there.is_silent = False
                await until(bridge.is_ready.is_set)

    run(work())


def test_a_broker_that_takes_no_connection_for_long_is_tried_less_often() -> None:
    """Although each one has begun."""

    async def work() -> None:
        async with Broker() as there, server() as here:
            there.is_closing = True
            async with bridged(
                here.url, there.url, is_ready=False, ins=[{"filter": "a"}]
            ) as bridge:
                await until(lambda: len(there.versions) == 4)
                assert bridge._link._attempt >= 3

    run(work())


def test_at_the_end_each_message_is_in_the_books() -> None:
    """Those that the bus has not taken, one that waits for a place, and those behind it."""

    async def work() -> None:
        async with Broker() as there, server() as here:
            held = asyncio.Event()
            await here.subscribe("a/1", lambda message: held.wait())
            ins = [{"filter": "a/#", "acks": True, "timeout": 60.0}]
            async with bridged(here.url, there.url, ins=ins, window=2, grace=0.05) as bridge:
                there.send(*messages(*["a/1"] * 5))
                await until(lambda: account(bridge, "in a/#")["came"] == 3)
            figures = account(bridge, "in a/#")
            assert (figures["came"], figures["not_passed"]) == (5, {"left_to_broker": 5})
            held.set()

    run(work())


def test_a_bus_that_refuses_a_pattern_later_ends_the_bridge() -> None:
    """Or a rule would be without effect, and nobody would know."""

    async def work() -> None:
        here = server()
        await here.start()
        async with Broker() as there:
            with pytest.raises(kps.KPSError, match=r"the bus refuses the pattern 'a/\*\*'"):
                async with bridged(here.url, there.url, outs=[{"pattern": "a/**"}]) as bridge:
                    await here.stop(0.0)
                    rights = kps.Permissions.open(subscribe=["b/**"])
                    async with kps.Server(here.address, permissions=rights):
                        await until(lambda: bridge.books.events["errors of the bus"] == 1)

    run(work())
