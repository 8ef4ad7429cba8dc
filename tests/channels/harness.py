"""What the tests of the channel layer share. Each layer here is as a process of its own."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ParamSpec

import kps.sync
from kps.channels import KpsChannelLayer

PATIENCE = 20.0
"""Seconds after which something that should have happened counts as never happening."""

P = ParamSpec("P")


def on_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Let a coroutine function be a test: on a new event loop, and with patience."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            async with asyncio.timeout(2 * PATIENCE):
                await test(*args, **kwargs)

        asyncio.run(main())

    return run


@asynccontextmanager
async def layers(
    server: kps.sync.Server, count: int = 1, **config: Any
) -> AsyncIterator[list[KpsChannelLayer]]:
    """Make layers, each with a connection of its own, and close them.

    They have patience with each other: a thread that stands still is neither gone nor full.
    """
    config = {"timeout": PATIENCE} | config
    made = [KpsChannelLayer(server.address, **config) for _ in range(count)]
    try:
        yield made
    finally:
        for one in made:
            await one.close()


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


def text(number: int) -> dict[str, Any]:
    """Make a message."""
    return {"type": "test.message", "number": number}
