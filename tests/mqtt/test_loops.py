"""Messages do not go round, whichever way they take."""

from pathlib import Path
from typing import Any

import pytest

import kps
from kps.errors import InvalidArgument
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
from tests.mqtt.test_answers import Broker

IN, OUT = [{"filter": "a/#"}], [{"pattern": "a/**"}]


@needs_broker
def test_one_bridge_for_both_ways(tmp_path: Path) -> None:
    async def work() -> None:
        with broker(tmp_path) as there, peer(there.port) as sensor:
            async with server() as here, kps.Client(here.url) as boss:
                async with bridged(here.url, there.url, ins=IN, outs=OUT) as bridge:
                    sensor.subscribe("a/#")
                    sensor.publish("a/1", b"1")
                    ack = await boss.publish_with_ack("a/2", 2, PATIENCE)
                    assert (await ack.wait())["mqtt-bridge"].success
                    # The broker passes messages on in order: what had come back would be here.
                    sensor.publish("a/3", b"3")
                    await until(lambda: account(bridge, "in a/#")["passed"] == 2)
                    await until(lambda: account(bridge, "out a/**")["came"] == 3)
                    await until(lambda: len(sensor.got) >= 3)  # its thread may be behind
                    assert sensor.payloads() == [b"1", b"2", b"3"]
                assert account(bridge, "in a/#")["came"] == 2
                assert account(bridge, "out a/**")["not_passed"] == {"own": 2}

    run(work())


@needs_broker
def test_two_bridges_between_the_same_two(tmp_path: Path) -> None:
    """Each passes a message on, the other one brings it back, and there it ends."""

    async def work() -> None:
        with broker(tmp_path) as there, peer(there.port) as sensor:
            async with server() as here, kps.Client(here.url) as boss:
                rules: dict[str, Any] = {"ins": IN, "outs": OUT}
                async with bridged(here.url, there.url, id="one", **rules) as one:
                    async with bridged(here.url, there.url, id="two", **rules) as two:
                        sensor.subscribe("a/#")
                        await boss.publish("a/1", "round")
                        for bridge in (one, two):
                            # The message itself, what it brings back, and what the other one does.
                            out = bridge.books.account("out a/**")
                            await until(lambda out=out: out.came == 3 and not out.under_way)  # type: ignore[misc]
                            assert out.not_passed == {"own": 1, "looped": 1}
                            assert account(bridge, "in a/#")["came"] == 1
                        await until(lambda: len(sensor.got) >= 2)  # its thread may be behind
                        assert sensor.payloads() == [b"round"] * 2
                        sensor.publish("a/2", b"back")
                        for bridge in (one, two):
                            inward = bridge.books.account("in a/#")
                            await until(
                                lambda inward=inward: inward.came == 3 and not inward.under_way  # type: ignore[misc]
                            )
                            assert inward.not_passed == {"looped": 1}

    run(work())


@needs_broker
def test_two_buses_meet_at_a_broker(tmp_path: Path) -> None:
    async def work() -> None:
        with broker(tmp_path) as there:
            async with server() as here, server() as far:
                got: list[kps.Message[Any]] = []

                async def take(message: kps.Message[Any]) -> None:
                    got.append(message)

                await far.subscribe("a/1", take)
                rules: dict[str, Any] = {"ins": IN, "outs": OUT}
                async with bridged(here.url, there.url, id="one", **rules) as one:
                    async with bridged(far.url, there.url, id="two", **rules) as two:
                        await here.publish("a/1", 1, headers={"traceparent": "t"})
                        await until(lambda: account(two, "out a/**")["came"] == 1)
                        assert got[0].headers == {"traceparent": "t", "kps-bridges": "one,two"}
                        assert account(one, "in a/#")["came"] == 0
                        assert account(two, "out a/**")["not_passed"] == {"own": 1}

    run(work())


@pytest.mark.parametrize(("pattern", "is_refused"), [("a/**", True), ("b/**", False)])
def test_what_a_broker_of_mqtt_3_would_send_back_is_refused(pattern: str, is_refused: bool) -> None:
    async def work() -> None:
        async with Broker(speaks_5=False) as there, server() as here:
            rules: dict[str, Any] = {"ins": IN, "outs": [{"pattern": pattern}]}
            if is_refused:
                with pytest.raises(InvalidArgument, match="come back from a broker of MQTT 3"):
                    async with bridged(here.url, there.url, **rules):
                        pass
            else:
                async with bridged(here.url, there.url, **rules):
                    assert there.versions == [5, 4]

    run(work())
