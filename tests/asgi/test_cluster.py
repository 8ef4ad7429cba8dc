"""Buses in several applications are one, over NATS."""

import asyncio
import logging

import pytest

from kps.asgi import Bus
from tests.asgi.harness import Caller
from tests.cluster.harness import PATIENCE, Engine


def test_two_applications_are_nodes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    engine = Engine()

    async def main() -> None:
        one, other = (Bus(cluster=engine.url, id=name) for name in ("n1", "n2"))
        async with asyncio.timeout(PATIENCE), one.lifespan(), other.lifespan():
            alice = await Caller(one).connected("alice")
            alice.say(action="subscribe", topic="t")
            assert (await alice.hear())["action"] == "subscribed"
            while alice.sent.empty():  # the other one may not know of the subscription yet
                await other.publish("t", "hello")
                await asyncio.sleep(0.01)
            assert (await alice.hear())["data"] == "hello"
            await alice.end()

    try:
        asyncio.run(main())
    finally:
        engine.end()
    # A node says nothing of other processes.
    assert not [one for one in caplog.records if "several" in one.getMessage()]
    assert not [one for one in caplog.records if one.levelno > logging.WARNING]
