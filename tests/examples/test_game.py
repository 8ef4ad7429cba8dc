"""``examples/game``: the rules, and that players see each other move, and only as the rules let."""

import asyncio
import random
import runpy
from typing import Any

import pytest

import kps
from tests.examples.harness import EXAMPLES, PATIENCE, running

GAME = runpy.run_path(str(EXAMPLES / "game" / "game.py"))


def arena_with(*names: str) -> Any:
    arena = GAME["Arena"](random.Random(7))
    arena.admit({name: {"name": name} for name in names} | {"watcher": None, "nameless": {}})
    return arena


def test_who_goes_to_dots_collects_them_and_wins() -> None:
    arena = arena_with("ann", "bob")
    still = arena.players["bob"].x, arena.players["bob"].y
    for _ in range(100_000):
        ann = arena.players["ann"]
        x, y = min(arena.dots, key=lambda dot: GAME["dist"](dot, (ann.x, ann.y)))
        arena.steer("ann", [x - ann.x, y - ann.y])
        if arena.step(GAME["TICK"]) == "ann":
            break
        assert ann.score < GAME["GOAL"]
    else:
        pytest.fail("she has never won")
    assert (arena.players["bob"].x, arena.players["bob"].y) == still
    assert [one.score for one in arena.players.values()] == [0, 0]
    assert len(arena.dots) == GAME["DOTS"]


@pytest.mark.parametrize("heading", [None, "up", [1], [1, "a"], [None, 0], {"x": 1}, [1, 2, 3]])
def test_what_is_no_direction_moves_nobody(heading: object) -> None:
    arena = arena_with("ann")
    arena.steer("ann", heading)
    assert arena.players["ann"].heading == (0.0, 0.0)


def test_nobody_is_faster_than_others_or_leaves_the_arena() -> None:
    arena = arena_with("ann")
    ann = arena.players["ann"]
    ann.x = 0.0
    arena.steer("ann", [1e6, 0])
    arena.step(1.0)
    assert ann.x == GAME["SPEED"]
    for heading in ([1, 1], [-1, -1]):
        arena.steer("ann", heading)
        arena.step(1000.0)
        assert (ann.x, ann.y) in {(GAME["WIDTH"], GAME["HEIGHT"]), (0.0, 0.0)}


def test_who_watches_does_not_play_and_who_is_gone_is_gone() -> None:
    arena = arena_with("ann", "bob")
    arena.steer("watcher", [1, 0])
    arena.players["ann"].score = 3
    assert set(arena.state()["players"]) == {"ann", "bob"}
    arena.admit({"ann": {"name": "ann"}})
    assert {one: score for one, (_, _, score) in arena.state()["players"].items()} == {"ann": 3}


def enter(address: str, name: str, secret: str = "") -> kps.Client:
    return kps.Client(address, id=name, token=secret or f"secret-of-{name}", reconnect=False)


async def ignore(message: kps.Message) -> None:
    """Only play; somebody else looks."""


async def until_state(client: kps.Client, holds: Any) -> dict[str, Any]:
    """Read states until one is as wanted; none of the older ones is needed for that."""
    async with asyncio.timeout(PATIENCE), client.subscribe("arena") as states:
        async for message in states:
            if holds(message.data["players"]):
                return dict(message.data)
    raise AssertionError


def test_players_see_each_other_move_and_a_late_one_sees_all_at_once() -> None:
    async def run(address: str) -> None:
        async with enter(address, "ann") as ann, enter(address, "bob") as bob:
            for one in (ann, bob):
                await one.subscribe("arena", ignore, info={"name": one.id})
            before = (await until_state(bob, lambda there: len(there) == 2))["players"]["ann"]
            way = 1 if before[0] < GAME["WIDTH"] / 2 else -1
            await ann.publish_to_id("game", [way, 0])
            await until_state(bob, lambda there: (there["ann"][0] - before[0]) * way > 10)
            async with enter(address, "cid") as cid:  # late, and only watches
                first = await anext(aiter(cid.subscribe("arena", timeout=PATIENCE)))
                assert set(first.data["players"]) == {"ann", "bob"}
                assert len(first.data["dots"]) == GAME["DOTS"]
            await ann.close()
            await until_state(bob, lambda there: set(there) == {"bob"})

    with running("game", "127.0.0.1:0", "0") as program:
        asyncio.run(run(program.bus("/bus.js")))
        assert program.interrupt() == ""


def test_nobody_makes_states_or_plays_for_another() -> None:
    async def run(address: str) -> None:
        async with enter(address, "ann") as ann:
            for topic in ("arena", "wins"):
                with pytest.raises(kps.ServerError, match="may not"):
                    await ann.publish_with_receipt(topic, {"players": {}, "dots": []})
            with pytest.raises(kps.ServerError, match="may not"):
                await ann.subscribe("arena", print, group="thieves")
            with pytest.raises(kps.ServerError, match="belongs to another"):
                async with enter(address, "ann", "another-secret"):
                    pass

    with running("game", "127.0.0.1:0", "0") as program:
        asyncio.run(run(program.bus("/bus.js")))
        program.interrupt()
