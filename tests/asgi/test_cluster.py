"""Buses in several applications are one, over NATS."""

import asyncio
import logging
from collections.abc import Callable

import pytest

import kps
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


def test_a_program_disconnects_a_client_of_another_node() -> None:
    engine = Engine()

    async def main() -> None:
        one, other = (Bus(cluster=engine.url, id=name) for name in ("n1", "n2"))
        async with asyncio.timeout(PATIENCE), one.lifespan(), other.lifespan():
            alice = await Caller(one).connected("alice")
            while not await other.disconnect("alice", "logged out"):  # they may not be linked yet
                await asyncio.sleep(0.01)
            assert await other.disconnect("nobody") is False
            while one.clients():
                await asyncio.sleep(0.01)
            await alice.end()

    try:
        asyncio.run(main())
    finally:
        engine.end()


class Unanswered:
    """Asks nodes that never answer."""

    def ask(self, client_id: str, reason: str, done: Callable[[bool], object]) -> None:
        """Do nothing."""


def test_who_waits_for_other_nodes_hears_of_the_end() -> None:
    engine = Engine()

    async def main() -> None:
        one, other = (Bus(cluster=engine.url, id=name) for name in ("n1", "n2"))
        async with asyncio.timeout(PATIENCE), one.lifespan(), other.lifespan():
            while not one._hub.state.others:
                await asyncio.sleep(0.01)
            call = asyncio.create_task(one.disconnect("nobody"))
            await asyncio.sleep(0)
            assert not call.done()
            one._hub.state.dismissal = Unanswered()
            silent = asyncio.create_task(one.disconnect("nobody"))
            assert await call is False
            await one.stop(0)
            with pytest.raises(kps.ServerStopped):
                await silent

    try:
        asyncio.run(main())
    finally:
        engine.end()
