"""Judges a client, by way of its testee."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic

from kps.testing.conformance.client_vectors import ClientVector, lowered
from kps.testing.conformance.news import News
from kps.testing.conformance.play import Play
from kps.testing.conformance.scripted_server import ScriptedServer
from kps.testing.conformance.testee import Testee, TesteeFailed
from kps.testing.conformance.verdict import Outcome, Verdict

PATIENCE = 10.0


async def judge_client(
    command: Sequence[str],
    vectors: Sequence[ClientVector],
    *,
    side_by_side: int = 4,
    patience: float = PATIENCE,
    testee_patience: float = PATIENCE,
    on_verdict: Callable[[Verdict], object] = lambda verdict: None,
) -> list[Verdict]:
    """Judge the client of the testee that a command starts.

    So many testees run ``side_by_side``. What the client must do is waited for no longer than
    ``patience``, and the answers of the testee itself than ``testee_patience``, in seconds.
    Raises :class:`TesteeFailed` if a testee cannot be started.
    """
    left = deque(vectors)
    verdicts: list[Verdict] = []

    def found(verdict: Verdict) -> None:
        verdicts.append(verdict)
        on_verdict(verdict)

    lanes = [
        asyncio.ensure_future(_Lane(command, patience, testee_patience).judge(left, found))
        for _ in range(max(1, min(side_by_side, len(left))))
    ]
    try:
        await asyncio.gather(*lanes)
    finally:
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
    order = {vector.name: number for number, vector in enumerate(vectors)}
    return sorted(verdicts, key=lambda verdict: order[verdict.vector])


class _Lane:
    """One testee at a time, and the vectors that it plays, one after the other."""

    def __init__(self, command: Sequence[str], patience: float, testee_patience: float) -> None:
        self._command = command
        self._patience = patience
        self._testee_patience = testee_patience
        self._news = News()
        self._testee = self._new_testee()

    async def judge(self, left: deque[ClientVector], found: Callable[[Verdict], object]) -> None:
        try:
            await self._testee.start()
            while left:
                found(await self._judge_one(left.popleft()))
        finally:
            await self._testee.stop()

    async def _judge_one(self, vector: ClientVector) -> Verdict:
        if reason := self._testee.why_not(vector):
            return Verdict(vector.name, vector.clauses, Outcome.LEFT_OUT, reason)
        if self._testee.level == 1:
            vector = lowered(vector)
        begun = monotonic()
        try:
            server = ScriptedServer(self._news)
            wrong = await Play(vector, self._testee, server, self._news, self._patience).run()
        except TesteeFailed as error:
            await self._testee.stop()
            wrong = f"{error}{self._testee.said()}"
            self._testee = self._new_testee()
            await self._testee.start()
        outcome = Outcome.FAILED if wrong else Outcome.PASSED
        return Verdict(vector.name, vector.clauses, outcome, wrong, monotonic() - begun)

    def _new_testee(self) -> Testee:
        return Testee(self._command, self._news, self._testee_patience)
