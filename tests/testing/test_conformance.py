"""The judges themselves: what is wrong is found, and what cannot be judged is left out."""

import asyncio
import json
import re
import socket
import sys
import threading
import xml.etree.ElementTree as xml
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

import kps.sync
from kps.protocol.dialect.address import Address
from kps.protocol.server_limits import ServerLimits
from kps.testing.conformance import frames, judge_client, judge_server, report
from kps.testing.conformance import testee as testees
from kps.testing.conformance.client_vectors import ClientVector, lowered
from kps.testing.conformance.judge_server import Abilities, find_out
from kps.testing.conformance.socket_target import SocketTarget, Unreachable
from kps.testing.conformance.verdict import Outcome, Verdict
from kps.testing.conformance.where import vectors_for_servers
from kps.testing.testee.in_memory import play_in_memory
from kps.testing.vectors import Vector, default_pong, load_vectors
from tests.testing.test_client_vectors import judge
from tests.testing.test_vectors import waits

Step = dict[str, Any]

# -- frames ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_frames_are_read_as_they_were_made(size: int, masked: bool) -> None:
    payload = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    data = frames.frame(frames.BINARY, payload, masked=masked)
    data += frames.close_frame(1001, "bye", masked=masked)
    reader = frames.Reader(masked=masked)
    found = reader.feed(data[:5]) + reader.feed(data[5:])
    assert [one.opcode for one in found] == [frames.BINARY, frames.CLOSE]
    assert found[0].payload == payload
    assert found[1].code == 1001


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("8100", "not masked"),
        ("c180", "begins with the byte 0xc1"),
        ("8380", "begins with the byte 0x83"),
        ("808000000000", "continues nothing"),
        ("018000000000018000000000", "within another"),
        ("89fe007e", "too long"),
    ],
)
def test_frames_that_break_a_rule_are_refused(data: str, error: str) -> None:
    with pytest.raises(frames.BadFrame, match=error):
        frames.Reader(masked=True).feed(bytes.fromhex(data))


# -- the judge of clients --------------------------------------------------------------------------

CONNECT: list[Step] = [
    {"do": "connect"},
    {"accept": True, "id": "a"},
    {"told": [{"told": "connected", "id": "a"}]},
]
PUBLISH: Step = {"do": "publish", "topic": "t", "data": 1}
PUBLISHED: Step = {"action": "publish", "topic": "t", "data": 1}
DIRECT: Step = {"send": {"action": "direct_message", "from": "b", "data": 1}}


def vector(name: str, *steps: Step, **options: Any) -> ClientVector:
    options = {"id": "a", "reconnect": False, "reports_direct": True} | options
    return ClientVector(name, [*CONNECT, *steps], ("1.1",), options)


WRONG: list[tuple[str, list[Step], str]] = [
    ("nothing came", [{"got": [PUBLISHED]}], "0 instead of 1"),
    ("something came", [PUBLISH, {"got": []}], "1 instead of 0"),
    (
        "unasked",
        [PUBLISH],
        'after the last step:\n  1 instead of 0\n  expected: []\n  received: {"',
    ),
    ("other payload", [PUBLISH, {"got": [PUBLISHED | {"data": 2}]}], "['data']: 1 instead of 2"),
    (
        "other order",
        [PUBLISH, PUBLISH | {"topic": "u"}, {"got": [PUBLISHED | {"topic": "u"}, PUBLISHED]}],
        "'t' instead of 'u'",
    ),
    (
        "another one, in any order",
        [PUBLISH, PUBLISH, {"got_in_any_order": [PUBLISHED, PUBLISHED | {"data": 3}]}],
        "[1]['data']: 1 instead of 3",
    ),
    ("told nothing", [{"told": [{"told": "ended"}]}], "0 instead of 1"),
    ("told something", [DIRECT, {"told": []}], "1 instead of 0"),
    ("told unasked", [DIRECT], 'received: {"told": "direct"'),
    ("told otherwise", [DIRECT, {"told": [{"told": "direct", "data": 1}]}], "has ['from'] besides"),
    (
        "not told among others",
        [DIRECT, {"told_among": [{"told": "direct", "data": 2, "from": "b"}]}],
        "['data']: 1 instead of 2",
    ),
    ("still open", [{"closed": 1000}], "the client has not ended the connection"),
    ("another code", [{"do": "close"}, {"closed": 1001}], "the code is 1000"),
    ("no connection", [{"accept": True}], "the client does not connect"),
    ("no such step", [{"sends": 1}], "there is no such step"),
    ("not known yet", [{"send": {"action": "$ack1"}}], "$ack1 is not known yet"),
    ("no such number", [PUBLISH, {"got": [PUBLISHED | {"data": {"$between": [2, 3]}}]}], "between"),
]


WRONG_FROM_THE_START = [
    (
        vector("came back", {"drop": True}, {"no_connection_s": 20}, reconnect=0.05),
        "the client has connected",
    ),
    (
        ClientVector("other id", CONNECT, (), {"id": "b", "reconnect": False}),
        "['from']: 'b' instead of 'a'",
    ),
    (
        ClientVector(
            "no token",
            [{"do": "connect"}, {"accept": True, "id": "a", "token": "x"}],
            (),
            {"id": "a", "reconnect": False},
        ),
        "the client shows the tokens []",
    ),
]
ALL_WRONG = [(vector(name, *steps), complaint) for name, steps, complaint in WRONG]
ALL_WRONG += WRONG_FROM_THE_START


@pytest.mark.parametrize(
    ("wrong", "complaint"), ALL_WRONG, ids=[wrong.name for wrong, _ in ALL_WRONG]
)
def test_wrong_vectors_fail(wrong: ClientVector, complaint: str) -> None:
    assert complaint in play_in_memory(wrong)


def test_wrong_vectors_fail_over_sockets() -> None:
    named = {wrong.name: (wrong, complaint) for wrong, complaint in ALL_WRONG}
    chosen = [named["nothing came"], named["came back"]]
    verdicts = judge([wrong for wrong, _ in chosen], patience=2.0)
    for verdict, (wrong, complaint) in zip(verdicts, chosen, strict=True):
        assert (verdict.vector, verdict.outcome) == (wrong.name, Outcome.FAILED)
        assert complaint in verdict.detail


def judged(program: str, *vectors: ClientVector, patience: float = 20.0) -> list[Verdict]:
    """Judge a testee that is written for the test."""
    command = [sys.executable, "-c", program]
    return asyncio.run(judge_client.judge_client(command, vectors, testee_patience=patience))


HELLO = 'import json, os, sys\nprint(\'{"testee": "odd", "needs": ["headers"]}\', flush=True)\n'


@pytest.mark.parametrize(
    ("then", "complaint"),
    [
        ("sys.stderr.write('oh dear\\n')", "the testee has ended\n  testee:   oh dear"),
        ("input(); print('nonsense', flush=True); input()", "the testee has written b'nonsense"),
        ("sys.stdin.read()", "the testee does not answer a sync"),
    ],
)
def test_a_testee_that_fails_is_started_anew(then: str, complaint: str) -> None:
    patience = 0.5 if "read" in then else 20.0
    verdicts = judged(HELLO + then, vector("one"), vector("two"), patience=patience)
    assert [verdict.outcome for verdict in verdicts] == [Outcome.FAILED] * 2
    assert all(complaint in verdict.detail for verdict in verdicts)


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (["/no/such/testee"], "cannot be started"),
        ([sys.executable, "-c", "pass"], "the testee has ended"),
        ([sys.executable, "-c", "print('hello')"], "the testee has written b'hello"),
    ],
)
def test_a_testee_that_cannot_be_started(command: list[str], complaint: str) -> None:
    with pytest.raises(testees.TesteeFailed, match=complaint):
        asyncio.run(judge_client.judge_client(command, [vector("one")]))


def test_what_a_client_does_not_have_is_left_out() -> None:
    program = HELLO + "sys.stdin.read()"
    lacking = ClientVector("x", CONNECT, ("14",), {}, frozenset({"headers", "patterns", "groups"}))
    (verdict,) = judged(program, lacking)
    assert (verdict.outcome, verdict.detail) == (
        Outcome.LEFT_OUT,
        "the client does not have groups, patterns",
    )


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (ClientVector("level 2", CONNECT), "the client knows level 1 only"),
        (
            ClientVector("flush", [*CONNECT, {"do": "flush", "as": "f"}], on_level_1=True),
            "the client has no call for flush",
        ),
    ],
)
def test_what_a_client_of_level_1_cannot_be_judged_by(candidate: ClientVector, reason: str) -> None:
    hello = {"testee": "old", "needs": [], "level": 1, "without": ["flush", "history"]}
    program = f"import sys\nprint({json.dumps(hello)!r}, flush=True)\nsys.stdin.read()"
    (verdict,) = judged(program, candidate)
    assert (verdict.outcome, verdict.detail) == (Outcome.LEFT_OUT, reason)


def test_a_vector_for_a_client_of_level_1() -> None:
    delivery = {"action": "publish", "topic": "t", "data": 1, "from": "bob"}
    wrapped = {"action": "publish", "topic": "t", "data": {"data": 1, "from": "bob"}}
    asked = {"action": "publish_with_ack", "topic": "t", "ack_id": "$ack1", "data": 1}
    steps: list[Step] = [
        {"accept": True, "id": "a", "pong": {"features": None}},
        {"got": [{"action": "ping", "from": "a", "proto": 2}, asked | {"timeout": 5}]},
        {"send": [{"action": "pong", "id": "b", "proto": 2, "features": []}, delivery]},
        {"told": []},
    ]
    assert lowered(ClientVector("v", steps)).options == {"level": 1}
    assert lowered(ClientVector("v", steps)).steps == [
        {"accept": True, "id": "a", "level": 1},
        {"got": [{"action": "ping", "from": "a"}, asked | {"timeout": {"$optional": 5}}]},
        {"send": {"action": "pong", "id": "b"}},
        {"send": wrapped},
        {"told": []},
    ]


def test_a_vector_leaves_nothing_to_the_next_one() -> None:
    verdicts = judge([vector("much", DIRECT, PUBLISH, DIRECT), vector("next")])
    assert [verdict.outcome for verdict in verdicts] == [Outcome.FAILED, Outcome.PASSED]


# -- the judge of servers --------------------------------------------------------------------------


@contextmanager
def serving(**options: Any) -> Iterator[Callable[[], SocketTarget]]:
    expected: dict[str, Any] = {
        "id": "refserver",
        "permissions": kps.Permissions.open(relay=["**"]),
        "history": [kps.History("kept/**", 5)],
    }
    options = expected | options
    with kps.sync.Server("127.0.0.1:0", **options) as server:
        yield lambda: SocketTarget(Address.parse(server.address), patience=20.0)


VECTORS = load_vectors(vectors_for_servers())


def test_a_server_passes_twice() -> None:
    """The second time it remembers what it has kept of the first one."""
    vectors = [one for one in VECTORS if not waits(one)][::2]
    again = [one for one in vectors if "15" in {name.split(".")[0] for name in one.clauses}]
    with serving() as new_target:
        assert find_out(new_target()) == Abilities(
            pong=default_pong(),
            has_our_id=True,
            keeps_messages=True,
            may_relay=True,
            knows_address=True,
        )
        verdicts = judge_server.judge_server(new_target, vectors)
        verdicts += judge_server.judge_server(new_target, again)
    wrong = [one for one in verdicts if one.outcome is not Outcome.PASSED]
    assert not wrong, "\n\n".join(f"{one.vector}: {one.detail}" for one in wrong)


def test_what_a_server_cannot_do_as_it_is_configured_is_left_out() -> None:
    options: dict[str, Any] = {"id": "other", "permissions": kps.Permissions.open(), "history": []}
    limits = ServerLimits(max_message=100_000)
    vectors = [one for one in VECTORS if not waits(one)][::3]
    with serving(limits=limits, **options) as new_target:
        verdicts = judge_server.judge_server(new_target, vectors)
    wrong = [one for one in verdicts if one.outcome is Outcome.FAILED]
    assert not wrong, "\n\n".join(f"{one.vector}: {one.detail}" for one in wrong)
    left_out = {one.detail for one in verdicts if one.outcome is Outcome.LEFT_OUT}
    assert left_out == {
        "the id of the server is not refserver",
        "the server does not relay to itself",
        "the server does not keep 5 messages of topics that begin with kept/",
        "the server has limits of its own",
    }
    assert sum(one.outcome is Outcome.PASSED for one in verdicts) > 60


@pytest.mark.parametrize(
    ("pong", "clause", "steps", "reason"),
    [
        (None, "4.2", [{"open": "a", "registered": True, "level": 2}], "speaks level 1 only"),
        (None, "4.2", [{"open": "a", "registered": True}], ""),
        ({"features": ["groups"]}, "17.2", [{"open": "a"}], "does not have presence"),
        ({"features": ["groups"]}, "16.2", [{"open": "a"}], "does not have expect"),
        ({"features": ["groups"]}, "18.2", [{"open": "a"}], ""),
        ({"limits": {"max_message": 1}}, "13.5", [{"open": "a"}], "has limits of its own"),
        (
            {},
            "7.4",
            [{"client": "a", "send": {"id": "$address"}}],
            "does not know the address by which we reach it",
        ),
    ],
)
def test_what_is_left_out(
    pong: dict[str, Any] | None, clause: str, steps: list[Step], reason: str
) -> None:
    told = None if pong is None else default_pong() | pong
    abilities = Abilities(
        told, has_our_id=True, keeps_messages=True, may_relay=True, knows_address=False
    )
    found = abilities.why_not(Vector("x", steps, (clause,)))
    assert found == (f"the server {reason}" if reason else "")


@contextmanager
def odd_server(*answers: bytes) -> Iterator[Callable[[], SocketTarget]]:
    """A server that answers what one client sends with what a test says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                for answer in answers:
                    connection.recv(2**16)
                    connection.sendall(answer)

        thread = threading.Thread(target=run)
        thread.start()
        address = Address.parse(f"127.0.0.1:{listener.getsockname()[1]}")
        yield lambda: SocketTarget(address, patience=20.0)
        thread.join()


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "does not let us in: HTTP/1.1 401 Unauthorized"),
        (b"", "does not let us in: it ends the connection"),
        (SWITCH + frames.frame(frames.TEXT, b"5"), "the server does not register us: {}"),
        (SWITCH + frames.frame(frames.TEXT, b"5", masked=True), "the server has sent a masked"),
        (SWITCH + frames.frame(frames.BINARY, b"5"), "the server has sent a binary message"),
        (
            SWITCH + frames.close_frame(1000) + frames.frame(frames.TEXT, b"5"),
            "behind its close frame",
        ),
    ],
    ids=["unauthorized", "end", "text", "masked", "binary", "behind a close frame"],
)
def test_a_server_that_does_not_let_us_in(answer: bytes, complaint: str) -> None:
    with odd_server(answer) as new_target:
        with pytest.raises(Unreachable, match=re.escape(complaint)):
            find_out(new_target())


def test_the_end_of_a_connection_comes_with_the_answer_to_a_mark() -> None:
    answered = frames.frame(frames.TEXT, b'{"error":"unknown action: mark-0"}')
    with odd_server(SWITCH, answered + frames.close_frame(4001)) as new_target:
        target = new_target()
        target.open("a")
        assert target.receive("a", 1) == [4001]
        target.end()


def test_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address.parse(f"127.0.0.1:{taken.getsockname()[1]}")
    with pytest.raises(Unreachable, match="cannot connect to ws://"):
        find_out(SocketTarget(address))


# -- the report ------------------------------------------------------------------------------------

VERDICTS = [
    Verdict("one", ("12.3", "2.1"), Outcome.PASSED, seconds=0.25),
    Verdict("two", ("12.3",), Outcome.LEFT_OUT, "the server does not have it"),
    Verdict("a <b> & \x00", ("2.1", "12.3"), Outcome.FAILED, "step 1\n  [0]: a < b \ud800", 1.5),
]


def test_the_report_for_people() -> None:
    assert list(report.as_text("ws://x", VERDICTS)) == [
        "ws://x",
        "   2.1  1 passed, 1 failed",
        "        failed: 'a <b> & \\x00'",
        "          step 1",
        "            [0]: a < b \ud800",
        "  12.3  1 passed, 1 failed, 1 left out",
        "        failed: 'a <b> & \\x00'",
        "left out: 1, because the server does not have it",
        "3 vectors: 1 passed, 1 failed, 1 left out",
    ]


def test_the_report_as_json() -> None:
    read = json.loads(report.as_json("ws://x", VERDICTS))
    assert (read["judged"], read["passed"], read["failed"], read["left_out"]) == ("ws://x", 1, 1, 1)
    assert read["vectors"][0] == {
        "name": "one",
        "clauses": ["12.3", "2.1"],
        "outcome": "passed",
        "detail": "",
        "seconds": 0.25,
    }


def test_the_report_as_junit() -> None:
    suite = xml.fromstring(report.as_junit("ws://x?<", VERDICTS).encode())
    assert suite.attrib == {
        "name": "kps conformance: ws://x?<",
        "tests": "3",
        "failures": "1",
        "skipped": "1",
        "errors": "0",
        "time": "1.750",
    }
    cases: Sequence[xml.Element] = list(suite)
    assert [case.get("classname") for case in cases] == ["clause 12.3", "clause 12.3", "clause 2.1"]
    assert [[part.tag for part in case] for case in cases] == [[], ["skipped"], ["failure"]]
    failure = cases[2][0]
    assert cases[2].get("name") == "a <b> & \ufffd"
    assert (failure.get("message"), failure.text) == ("step 1", "step 1\n  [0]: a < b \ufffd")
