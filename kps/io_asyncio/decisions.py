"""The hooks of a server that decide on clients just now."""

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, TypeVar

from kps.io_asyncio.dispatch import end_of
from kps.io_asyncio.driver import Driver
from kps.io_asyncio.workers import ends_task
from kps.io_common.explaining import explained, listen_for_explanations
from kps.io_common.server_logs import hook_failed

Subject = TypeVar("Subject")

Answer = Callable[[int, Any, float], None]
"""A verb of the hub that takes a hook's verdict on a session."""


class Decisions:
    """Calls hooks, each in a task, and gives the core their verdicts."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def ask(
        self,
        session: int,
        hook: Callable[[Subject], object],
        read: Callable[[object], object],
        subject: Subject,
        answer: Answer,
        peer: str,
    ) -> None:
        """Let a hook decide on a client, and give the core its verdict.

        ``read`` reads what the hook returned. Whatever it raises is a failure of the hook.
        """
        decision = self._driver.dispatcher.start(
            self._decide(hook, read, subject, partial(answer, session), peer)
        )
        self._tasks[session] = decision
        decision.add_done_callback(partial(self._decided, session))

    def drop(self, session: int) -> None:
        """Cancel the hook of a session that is over."""
        decision = self._tasks.get(session)
        if decision is not None:
            decision.cancel()  # nobody needs the verdict, and other hooks wait for its thread

    async def close(self, grace: float, spared: Collection["asyncio.Task[Any] | None"]) -> None:
        """Cancel all hooks but the ``spared`` ones, and wait until they have ended."""
        tasks = [task for task in self._tasks.values() if task not in spared]
        for task in tasks:
            task.cancel()
        await end_of(tasks, grace, spared)

    async def _decide(
        self,
        hook: Callable[[Subject], object],
        read: Callable[[object], object],
        subject: Subject,
        answer: Callable[[Any, float], None],
        peer: str,
    ) -> None:
        driver, noted = self._driver, listen_for_explanations()
        try:
            verdict = read(await driver.dispatcher.call(hook, subject))
        except BaseException as error:
            if ends_task(error):
                raise
            verdict = hook_failed(peer, error)
        answer(explained(verdict, noted), driver.clock())
        driver.progress()

    def _decided(self, session: int, decision: "asyncio.Task[None]") -> None:
        if self._tasks.get(session) is decision:
            del self._tasks[session]
