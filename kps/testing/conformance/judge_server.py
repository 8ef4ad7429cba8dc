"""Judges a server behind a socket, and leaves out what it cannot do as it is configured."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any
from uuid import uuid4

from kps.protocol.dialect.codes import (
    EXPECT,
    GROUPS,
    HEADERS,
    HISTORY,
    MESSAGE_IDS,
    PATTERNS,
    PRESENCE,
)
from kps.protocol.dialect.level2 import LEVEL
from kps.testing.conformance.socket_target import SocketTarget, Unreachable
from kps.testing.conformance.verdict import Outcome, Verdict
from kps.testing.vectors import Vector, VectorFailure, default_pong, run_vector

SERVER_ID = "refserver"
"""The id that the vectors expect a server to have."""

KEPT = 5
"""How many messages of each topic that begins with ``kept/`` they expect a server to keep."""

_BEHIND = {
    "14": PATTERNS,
    "15": HISTORY,
    "16.2": EXPECT,
    "17": PRESENCE,
    "18": GROUPS,
    "19": HEADERS,
    "21": MESSAGE_IDS,
}
"""The features that sections of the specification, and clauses, belong to."""

_ABOUT_LIMITS = ("2.6", "3.6", "13.5")


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a server can do, as far as it can be found out without changing anything."""

    pong: Mapping[str, Any] | None
    """Its ``pong`` of level 2, without the id; ``None``: it speaks level 1 only."""
    has_our_id: bool
    keeps_messages: bool
    """Whether it keeps as many messages as the vectors expect."""
    may_relay: bool
    knows_address: bool
    """Whether it knows that it is the server at the address by which we reach it."""

    def why_not(self, vector: Vector) -> str:
        """Return why a server cannot play a vector; nothing if it can."""
        used = json.dumps(vector.steps)
        if not self.has_our_id and SERVER_ID in used:
            return f"the id of the server is not {SERVER_ID}"
        if not self.may_relay and any(map(_relays, vector.steps)):
            return "the server does not relay to itself"
        if not self.knows_address and '"id": "$address"' in used:
            return "the server does not know the address by which we reach it"
        if self.pong is None:
            is_level_2 = '"level": 2' in used or '"proto"' in used
            return "the server speaks level 1 only" if is_level_2 else ""
        if not self.keeps_messages and ('"kept/' in used or "$epoch" in used):
            return f"the server does not keep {KEPT} messages of topics that begin with kept/"
        for clause in vector.clauses:
            feature = _BEHIND.get(clause) or _BEHIND.get(clause.partition(".")[0])
            if feature is not None and feature not in self.pong["features"]:
                return f"the server does not have {feature}"
            if clause in _ABOUT_LIMITS and self.pong["limits"] != default_pong()["limits"]:
                return "the server has limits of its own"
        return ""


def judge_server(
    new_target: Callable[[], SocketTarget],
    vectors: Sequence[Vector],
    *,
    on_verdict: Callable[[Verdict], object] = lambda verdict: None,
) -> list[Verdict]:
    """Hold a server to vectors, one after the other, each with a target of its own.

    Raises :class:`Unreachable`, if it cannot be reached in the beginning.
    """
    abilities = find_out(new_target())
    verdicts: list[Verdict] = []
    kept = f"kept/{uuid4().hex[:12]}/"  # of an earlier run the server may have kept some
    for vector in vectors:
        if reason := abilities.why_not(vector):
            verdict = Verdict(vector.name, vector.clauses, Outcome.LEFT_OUT, reason)
        else:
            adapted = _adapted(vector, kept, abilities.pong)
            verdict = _judge_one(new_target(), adapted, abilities.pong)
        verdicts.append(verdict)
        on_verdict(verdict)
    return verdicts


def _judge_one(target: SocketTarget, vector: Vector, pong: Mapping[str, Any] | None) -> Verdict:
    begun = monotonic()
    outcome, detail = Outcome.PASSED, ""
    try:
        run_vector(vector, target, pong)
    except VectorFailure as error:
        outcome, detail = Outcome.FAILED, str(error).removeprefix(f"{vector.name!r}, ")
    except Unreachable as error:
        outcome, detail = Outcome.FAILED, str(error)
    finally:
        target.end()
    return Verdict(vector.name, vector.clauses, outcome, detail, monotonic() - begun)


def _relays(step: Mapping[str, Any]) -> bool:
    match step.get("send"):
        case {"action": "publish_to_server", "to": str()}:
            return True
    return False


def _adapted(vector: Vector, kept: str, pong: Mapping[str, Any] | None) -> Vector:
    """Return a vector with other topics that have history, and with what the server's pong has."""

    def adapt(fields: dict[str, Any]) -> dict[str, Any]:
        is_pong = pong is not None and fields.get("action") == "pong" and "limits" in fields
        return {**fields, **(pong or {})} if is_pong else fields

    steps = json.dumps(vector.steps).replace('"kept/', f'"{kept}')
    return replace(vector, steps=json.loads(steps, object_hook=adapt))


def find_out(target: SocketTarget) -> Abilities:
    """Ask a server what it can do. Raises :class:`Unreachable`."""
    name = f"judge-{uuid4().hex[:12]}"
    asker = _Asker(target, name)
    try:
        target.open(name)
        pong = asker.ask({"action": "ping", "from": name, "proto": LEVEL})
        if pong.get("action") != "pong":
            raise Unreachable(f"the server does not register us: {json.dumps(pong)}")
        topic = f"kept/{name}"
        has_history = HISTORY in pong.get("features", ())
        for _ in range(KEPT + 1 if has_history else 0):
            asker.tell({"action": "publish", "topic": topic, "data": 0})
        past = asker.ask({"action": "history", "topic": topic, "nonce": "n"}) if has_history else {}
        question = {"action": "publish_to_server", "to": target.address, "data": None}
        sent = asker.ask(question)
        question = {"action": "server-to-server", "to": "-", "id": target.address, "data": None}
        asker.tell(question)  # which has an answer only if it is for another server
        passed = asker.ask({"action": "get_ack_status", "ack_id": name})
        taken = asker.ask({"action": "ping", "from": SERVER_ID})
    except VectorFailure as error:
        raise Unreachable(str(error)) from None
    finally:
        target.end()
    return Abilities(
        pong=_without_id(pong) if pong.get("proto") == LEVEL else None,
        has_our_id=taken.get("action") == "error",
        keeps_messages=len(past.get("messages", ())) == KEPT,
        may_relay=sent.get("action") == "server_message_sent",
        knows_address=passed.get("action") == "ack_status",
    )


def _without_id(pong: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in pong.items() if name not in ("action", "id")}
    if "message_ids" in told:
        told["message_ids"] = told["message_ids"] | {"window": "$text", "time": "$time"}
    return {"features": []} | told


class _Asker:
    """A client that asks one question after the other."""

    def __init__(self, target: SocketTarget, name: str) -> None:
        self._target = target
        self._name = name

    def tell(self, message: Mapping[str, Any]) -> None:
        self._target.send_text(self._name, json.dumps(message))

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Return the first answer, the close code in place of it, or nothing that can be read."""
        self.tell(question)
        answers = self._target.receive(self._name, 1)
        first = answers[0] if answers else None
        try:
            answer = json.loads(first) if isinstance(first, str) else {"closed": first}
        except ValueError:
            answer = None
        return answer if isinstance(answer, dict) else {}
