"""Plays one vector for clients: the server's part, with the testee as the program."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Protocol

from kps.protocol.dialect.level2 import LEVEL
from kps.testing.comparing import Names, Unplayable, difference, in_full, spell_out
from kps.testing.conformance.client_vectors import ClientVector
from kps.testing.conformance.frames import BINARY
from kps.testing.conformance.news import News
from kps.testing.conformance.scripted_server import PATH, ScriptedServer, Visitor
from kps.testing.vectors import default_pong

_ROUNDS = 2  # in the first one the client handles everything, in the second what this has led to


class _Wrong(Exception):
    """Something has come otherwise than the vector says, or has not come."""


class Player(Protocol):
    """A testee, wherever it is. Its methods raise :class:`TesteeFailed`."""

    told: list[dict[str, Any]]
    """What the program was told, and the vector has not asked for."""

    async def begin(self, name: str, url: str, options: Mapping[str, Any]) -> None:
        """Begin a vector."""

    async def do(self, step: Mapping[str, Any]) -> None:
        """Let the program do something, and wait until that has begun."""

    async def sync(self) -> None:
        """Wait until all steps have begun."""

    async def end(self) -> None:
        """End the vector."""

    def said(self) -> str:
        """Return what the testee has complained of."""


class Play:
    """One vector with one testee."""

    def __init__(
        self,
        vector: ClientVector,
        testee: Player,
        server: ScriptedServer,
        news: News,
        patience: float,
    ) -> None:
        self._vector = vector
        self._testee = testee
        self._server = server
        self._news = news
        self._patience = patience
        self._visitor: Visitor | None = None
        self._names = Names("")
        self._is_unread = False  # whether the client may not have read all that was sent

    async def run(self) -> str:
        """Play the vector; return what is wrong, or nothing. Raises :class:`TesteeFailed`."""
        vector, testee = self._vector, self._testee
        address = await self._server.start()
        self._names = Names(address)
        try:
            await testee.begin(vector.name, f"ws://{address}{PATH}", vector.options)
            wrong = await self._run_steps()
            await testee.end()
        finally:
            await self._server.stop()
        return wrong

    async def _run_steps(self) -> str:
        for number, step in enumerate(self._vector.steps, 1):
            try:
                await self._run_step(step)
                self._check_visitor()
            except (_Wrong, Unplayable) as error:
                shown = json.dumps(step, ensure_ascii=False)
                return f"step {number}: {shown}\n{error}{self._testee.said()}"
        try:
            await self._settle(_ROUNDS)
            self._check_rest()
        except _Wrong as error:
            return f"after the last step:\n{error}{self._testee.said()}"
        return ""

    async def _run_step(self, step: Mapping[str, Any]) -> None:
        match step:
            case {"do": str(), **_rest}:
                if self._is_unread:
                    await self._settle(1)
                await self._testee.do(self._names.fill(dict(step)))
            case {"accept": bool(is_right), **options}:
                await self._accept(options, is_right=is_right)
            case {"refuse": int() | None as status}:
                (await self._next_visitor()).refuse(status)
            case {"got": list(expected)}:
                self._compare(expected, await self._take_messages(expected))
            case {"got_in_any_order": list(expected)}:
                came = await self._take_messages(expected)
                self._compare(expected, self._in_order(expected, came))
            case {"told": list(expected)}:
                self._compare(expected, await self._take_told(expected))
            case {"told_in_any_order": list(expected)}:
                told = await self._take_told(expected)
                self._compare(expected, self._in_order(expected, told))
            case {"told_among": list(expected)}:
                await self._told_among(expected)
            case {"forget": True}:
                await self._settle(_ROUNDS)
                self._require_visitor().inbox.clear()
                self._testee.told.clear()
            case {"closed": int() | None as code}:
                await self._closed(code)
            case {"wait_s": int() | float() as seconds}:
                await asyncio.sleep(seconds)
            case {"no_connection_s": int() | float() as seconds}:
                if await self._news.until(lambda: bool(self._server.waiting), seconds):
                    raise _Wrong("  the client has connected")
            case _:
                await self._send(step)
                self._is_unread = True

    async def _send(self, step: Mapping[str, Any]) -> None:
        visitor = self._require_visitor()
        match step:
            case {"send": dict() | list() as message}:
                visitor.send(self._names.fill(message))
            case {"send_text": text}:
                visitor.send_bytes(self._names.fill(spell_out(text)).encode())
            case {"send_binary": text}:
                visitor.send_bytes(self._names.fill(spell_out(text)).encode(), BINARY)
            case {"send_raw": str(digits)}:
                visitor.send_raw(bytes.fromhex(digits))
            case {"close": int(code)}:
                visitor.close(code)
                await self._news.until(lambda: visitor.has_ended, self._patience)
                if visitor.code is None:
                    raise _Wrong("  the client has not answered the close frame")
            case {"drop": True}:
                visitor.drop()
            case _:
                raise Unplayable("there is no such step")

    # -- connections --------------------------------------------------------------------------

    async def _next_visitor(self) -> Visitor:
        self._check_inbox()
        if not await self._news.until(lambda: bool(self._server.waiting), self._patience):
            raise _Wrong("  the client does not connect")
        visitor = self._server.waiting.popleft()
        if fault := visitor.fault_of_request():
            raise _Wrong(f"  {fault}")
        return visitor

    async def _accept(self, options: Mapping[str, Any], *, is_right: bool) -> None:
        visitor = self._visitor = await self._next_visitor()
        tokens = visitor.tokens
        visitor.accept(is_right=is_right)
        self._is_unread = True
        if "id" in options:
            ping = await self._register(visitor, options)
            tokens |= {ping["token"]} if "token" in ping else set()
        if "token" in options and tokens != {options["token"]}:
            raise _Wrong(f"  the client shows the tokens {sorted(tokens)}")

    async def _register(self, visitor: Visitor, options: Mapping[str, Any]) -> dict[str, Any]:
        """Take the ping, and answer it."""
        await self._news.until(lambda: bool(visitor.inbox) or visitor.has_ended, self._patience)
        offered, level = self._vector.options.get("level", LEVEL), options.get("level", LEVEL)
        expected = {"action": "ping", "from": options["id"]}
        if offered > 1:
            expected["proto"] = offered
        if "token" in options:
            expected["token"] = {"$optional": options["token"]}
        came = visitor.inbox[:1]
        self._compare([expected], came)
        del visitor.inbox[:1]
        pong = {"action": "pong", "id": options["id"]}
        if level > 1:
            told = default_pong() | {"message_ids": _MESSAGE_IDS} | options.get("pong", {})
            pong |= {name: one for name, one in told.items() if one is not None}
        visitor.send(pong)
        ping: dict[str, Any] = came[0]
        return ping

    async def _closed(self, code: int | None) -> None:
        visitor = self._require_visitor()
        if not await self._news.until(lambda: visitor.has_ended, self._patience):
            raise _Wrong("  the client has not ended the connection")
        if visitor.code != code:
            raise _Wrong(f"  the code is {visitor.code}")

    def _require_visitor(self) -> Visitor:
        if self._visitor is None:
            raise Unplayable("there is no connection")
        return self._visitor

    # -- comparing ------------------------------------------------------------------------------

    async def _take_messages(self, expected: Sequence[Any]) -> list[Any]:
        visitor = self._require_visitor()
        if not expected:
            await self._settle(_ROUNDS)
        await self._news.until(
            lambda: len(visitor.inbox) >= len(expected) or visitor.has_ended, self._patience
        )
        came = [_judged(message) for message in visitor.inbox]
        visitor.inbox.clear()
        return came

    async def _take_told(self, expected: Sequence[Any]) -> list[Any]:
        testee = self._testee
        if not expected:
            await self._settle(_ROUNDS)
        await self._news.until(lambda: len(testee.told) >= len(expected), self._patience)
        told = list(testee.told)
        testee.told.clear()
        return told

    async def _told_among(self, expected: Sequence[Any]) -> None:
        told, names = self._testee.told, self._names
        await self._news.until(
            lambda: len(_matched(expected, told, names)[0]) == len(expected), self._patience
        )
        matching, rest = _matched(expected, told, names)
        told.clear()
        self._compare(expected, matching if len(matching) == len(expected) else matching + rest)

    def _in_order(self, expected: Sequence[Any], came: Sequence[Any]) -> list[Any]:
        """Bring what has come into the order of what was expected, as far as the two agree."""
        matching, rest = _matched(expected, came, self._names)
        return matching + rest

    def _compare(self, expected: Sequence[Any], came: Sequence[Any]) -> None:
        wrong = []
        if len(expected) != len(came):
            wrong.append(f"{len(came)} instead of {len(expected)}")
        for number, (wanted, one) in enumerate(zip(expected, came, strict=False)):
            if found := difference(wanted, one, self._names, "", in_order=False):
                wrong.append(f"[{number}]{found}")
        shown = [json.dumps(one, ensure_ascii=False) for one in came]
        if wrong:
            raise _Wrong(in_full(expected, shown, wrong, self._names))

    async def _settle(self, rounds: int) -> None:
        """Let the client read all that was sent, and the testee tell what this leads to."""
        self._is_unread = False
        for _ in range(rounds):
            if self._visitor is not None and not await self._visitor.ping(self._patience):
                raise _Wrong("  the client does not answer a WebSocket ping")
            await self._testee.sync()

    def _check_visitor(self) -> None:
        if self._visitor is not None and self._visitor.fault:
            raise _Wrong(f"  {self._visitor.fault}")

    def _check_inbox(self) -> None:
        if self._visitor is not None:
            self._compare([], [_judged(message) for message in self._visitor.inbox])

    def _check_rest(self) -> None:
        self._check_visitor()
        self._check_inbox()
        self._compare([], self._testee.told)


_MESSAGE_IDS = {"window": "w", "seconds": 120, "most": 10_000, "time": 1000}


def _judged(message: dict[str, Any]) -> dict[str, Any]:
    """Return what counts of a message: ``from`` has an effect in ``ping`` only (4.1)."""
    if message.get("action") == "ping":
        return message
    return {name: value for name, value in message.items() if name != "from"}


def _matched(
    expected: Sequence[Any], came: Sequence[Any], names: Names
) -> tuple[list[Any], list[Any]]:
    """Return what agrees with what was expected, in that order, and the rest."""
    names, matching, rest = deepcopy(names), [], list(came)
    for wanted in expected:
        for one in rest:
            if not difference(wanted, one, names, "", in_order=False):
                matching.append(one)
                rest.remove(one)
                break
    return matching, rest
