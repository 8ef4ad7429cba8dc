"""The vectors of ``spec/``: against the core in memory, and against ``kps serve``."""

import itertools
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from kps.testing.memory_target import MemoryTarget
from kps.testing.vectors import (
    Vector,
    VectorFailure,
    VectorTarget,
    load_vectors,
    messages_in,
    run_vector,
)
from tests.fuzz import grammar

SPEC = Path(__file__).parents[2] / "spec"
FILES = sorted((SPEC / "vectors").glob("*.json"))
VECTORS = load_vectors(SPEC / "vectors")
PATIENCE = 20.0


def waits(vector: Vector) -> bool:
    """Whether it takes long over a socket."""
    return any(step.get("wait_s", 0) >= 1 for step in vector.steps)


def by_name(vectors: Sequence[Vector]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", vectors, ids=[vector.name for vector in vectors])


# -- the files -------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_file_follows_the_schema(file: Path) -> None:
    schema = json.loads((SPEC / "vectors.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    content = json.loads(file.read_text(encoding="utf-8"))
    jsonschema.validate(content, schema, cls=jsonschema.Draft202012Validator)


def test_names_are_unique() -> None:
    names = [vector.name for vector in VECTORS]
    assert [name for name in names if names.count(name) > 1] == []


def protocol() -> str:
    return (SPEC / "PROTOCOL.md").read_text(encoding="utf-8")


def test_clauses_are_numbered_without_gaps() -> None:
    section, clause = 0, 0
    for number in re.findall(r"^##+ ([0-9.]+) ", protocol(), re.MULTILINE):
        if "." in number:
            clause += 1
            assert number == f"{section}.{clause}"
        else:
            section, clause = section + 1, 0
            assert number == str(section)
    assert section == 24


def test_the_tables_of_messages_have_every_field() -> None:
    """As the fuzzing lets both ends send them; it refuses any others of the server."""
    table = protocol().partition("\n### 12.10 ")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    asked, answered = (
        {
            row.split("|")[1].strip(" `"): set(re.findall(r"`([^`]+)`", row.split("|")[2]))
            for row in rows
            if row.count("|") == columns
        }
        for columns in (5, 4)
    )
    level_1 = protocol().partition("\n### 4.1 ")[2].partition("\n### ")[0]
    for action, fields in grammar.SENT_BY_CLIENT.items():
        row = next((row for row in level_1.splitlines() if row.startswith(f"| `{action}`")), "||||")
        known = set(re.findall(r"`([^`]+)`", "".join(row.split("|")[2:4])))
        assert fields - {"from"} <= known | asked.get(action, set()), action
    for action, told in answered.items():
        more = {"nonce", "group", "refused"} if action in ("pong", "error") else set()
        assert told - more == grammar.SENT_BY_SERVER[action] - more, action


@by_name(VECTORS)
def test_cited_clauses_exist(vector: Vector) -> None:
    numbers = re.findall(r"^##+ ([0-9.]+) ", protocol(), re.MULTILINE)
    assert vector.clauses
    assert set(vector.clauses) <= set(numbers)


def test_section_10_names_every_difference() -> None:
    files = [json.loads(file.read_text(encoding="utf-8")) for file in FILES]
    differing = {v["name"] for file in files for v in file["vectors"] if "differs" in v}
    section = protocol().partition("\n## 10 ")[2].partition("\n## 11 ")[0]
    rows = re.findall(r"^\|(.*)\|$", section, re.MULTILINE)[2:]
    cited = {name for row in rows for name in re.findall(r"`([^`]+)`", row.rpartition("|")[2])}
    assert differing - cited == set()
    assert cited - {vector.name for vector in VECTORS} == set()


def worked_exchanges() -> Iterator[Vector]:
    """The exchanges of section 11, and of level 2 in section 12, read as vectors."""
    section = protocol().partition("\n## 11 ")[2]
    for title, block in re.findall(r"^### ([^\n]+)\n[^#]*?```text\n(.*?)```", section, re.M | re.S):
        steps: list[dict[str, Any]] = []
        for line in block.splitlines():
            client, arrow, message = line.split(maxsplit=2)
            if {"open": client} not in steps:
                steps.append({"open": client})
            if arrow == "->":
                steps.append({"client": client, "send": json.loads(message)})
            elif steps[-1].get("client") == client and "receives" in steps[-1]:
                steps[-1]["receives"].append(json.loads(message))
            else:
                steps.append({"client": client, "receives": [json.loads(message)]})
        yield Vector(title, steps)


EXCHANGES = list(worked_exchanges())


@by_name(EXCHANGES)
def test_worked_exchange_is_true(vector: Vector) -> None:
    run_vector(vector, MemoryTarget())


# -- in memory -------------------------------------------------------------------------


@by_name(VECTORS)
@pytest.mark.parametrize("sizes", [(), (1,), (3, 50, 7)], ids=["whole", "bytes", "pieces"])
def test_core(vector: Vector, sizes: Sequence[int]) -> None:
    run_vector(vector, MemoryTarget(sizes=sizes))


# -- over a socket ---------------------------------------------------------------------


class _Client:
    """One connection to a server, with what came and was not yet asked for."""

    def __init__(self, url: str) -> None:
        self._entered = ExitStack()
        self.connection = self._entered.enter_context(
            connect(url, compression=None, max_size=None, ping_interval=None)
        )
        self.inbox: list[str | int] = []
        self.over = False

    def send(self, data: str | bytes) -> None:
        with suppress(ConnectionClosed):  # then the close code says what happened
            self.connection.send(data)

    def close(self) -> None:
        self._entered.close()

    def take(self, seconds: float) -> None:
        """Wait for one message, or for the end of the connection."""
        try:
            message = self.connection.recv(timeout=seconds)
        except ConnectionClosed:
            self.over = True
            self.inbox.append(self.connection.close_code or 1006)
        else:
            if isinstance(message, bytes):
                raise VectorFailure(f"a binary frame came: {message!r}")
            self.inbox += messages_in(message)

    def drain(self, mark: str) -> None:
        """Take all that the server sends until it has handled what was sent before.

        An action that does not exist is answered in every state, and changes nothing.
        """
        if not self.over:
            self.send(json.dumps({"action": mark}))
        while not self.over:
            known = len(self.inbox)
            self.take(PATIENCE)
            # On level 2 others may have come in one array with it, also behind it.
            for position in range(known, len(self.inbox)):
                if f'"unknown action: {mark}"' in str(self.inbox[position]):
                    del self.inbox[position]
                    return


class SocketTarget:
    """A server behind a socket."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.address = url.split("/")[2]
        self._clients: dict[str, _Client] = {}
        self._marks = itertools.count()
        self._last = ""

    def open(self, client: str) -> None:
        self._clients[client] = _Client(self.url)

    def send_text(self, client: str, text: str) -> None:
        self._turn_of(client).send(text)

    def send_binary(self, client: str, data: bytes) -> None:
        self._turn_of(client).send(data)

    def send_raw(self, client: str, data: bytes) -> None:
        self._turn_of(client).connection.socket.sendall(data)

    def close(self, client: str) -> None:
        self._clients.pop(client).close()

    def drop(self, client: str) -> None:
        self._clients[client].connection.socket.shutdown(socket.SHUT_RDWR)
        self.close(client)

    def receive(self, client: str, count: int) -> list[str | int]:
        # The first round makes sure that everything sent was handled, the second one that
        # what this led to for other clients has arrived.
        for _ in range(2):
            for each in self._clients.values():
                each.drain(f"mark-{next(self._marks)}")
        asked = self._clients[client]
        deadline = time.monotonic() + PATIENCE
        with suppress(TimeoutError):
            while len(asked.inbox) < count and not asked.over:
                asked.take(max(0.0, deadline - time.monotonic()))
        received = list(asked.inbox)
        asked.inbox.clear()
        return received

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def _turn_of(self, client: str) -> _Client:
        """The client that sends next, once the server has handled what another one sent."""
        if self._last != client and self._last in self._clients:
            self._clients[self._last].drain(f"mark-{next(self._marks)}")
        self._last = client
        return self._clients[client]

    def close_all(self) -> None:
        for client in list(self._clients):
            self.close(client)


DRIVERS: dict[str, list[str]] = {"asyncio": [], "threads": ["--threads"]}


@contextmanager
def serving(driver: str) -> Iterator[str]:
    """A server in a process of its own; its URL."""
    command = [sys.executable, "-m", "kps", "serve", "--address", "127.0.0.1:0"]
    command += ["--id", "refserver", "--relay-to", "**", "--history", "kept/**=5"]
    command += DRIVERS[driver]
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("KPS_")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"ws://127\.0\.0\.1:\d+/ws/bus", line)
            assert found is not None, f"the server said {line!r}"
            yield found.group()
            assert process.poll() is None, "the server has ended"
        finally:
            process.terminate()


def run_over_socket(vector: Vector, url: str) -> None:
    target = SocketTarget(url)
    try:
        run_vector(vector, target)
    finally:
        target.close_all()


@pytest.fixture(scope="module", params=DRIVERS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with serving(request.param) as url:
        yield url


@by_name([vector for vector in VECTORS if not waits(vector)])
def test_server(vector: Vector, url: str) -> None:
    run_over_socket(vector, url)


@pytest.mark.slow
def test_server_as_time_passes() -> None:
    """The vectors that wait do it side by side, each with a server of its own."""

    def run(vector: Vector, driver: str) -> None:
        with serving(driver) as url:
            run_over_socket(vector, url)

    cases = [(vector, driver) for vector in VECTORS if waits(vector) for driver in DRIVERS]
    assert cases
    with ThreadPoolExecutor(len(cases)) as pool:
        list(pool.map(run, *zip(*cases, strict=True)))


# -- the runner itself -----------------------------------------------------------------

OPEN: dict[str, Any] = {"open": "a", "registered": True}
SUBSCRIBED: dict[str, Any] = {"action": "subscribed", "topic": "t"}
SUBSCRIBE: dict[str, Any] = {"client": "a", "send": {"action": "subscribe", "topic": "t"}}
PUBLISHED: dict[str, Any] = {"action": "published", "topic": "t"}


def publish(data: Any) -> dict[str, Any]:
    return {"client": "a", "send": {"action": "publish", "topic": "t", "data": data}}


def receives(*messages: Any) -> dict[str, Any]:
    return {"client": "a", "receives": list(messages)}


def delivered(data: Any) -> dict[str, Any]:
    """A step that is right for a publication of ``a`` if that had this payload."""
    wrapped = {"data": data, "from": "a"}
    return receives({"action": "publish", "topic": "t", "data": wrapped}, PUBLISHED)


WRONG: list[tuple[str, list[dict[str, Any]], str]] = [
    ("nothing came", [OPEN, receives(SUBSCRIBED)], "0 messages instead of 1"),
    ("something came", [OPEN, SUBSCRIBE, receives()], "1 messages instead of 0"),
    ("unasked", [OPEN, SUBSCRIBE], "after the last step"),
    ("other value", [OPEN, SUBSCRIBE, receives(PUBLISHED)], "instead of 'published'"),
    (
        "field too many",
        [OPEN, SUBSCRIBE, receives({"action": "subscribed"})],
        "has ['topic'] besides",
    ),
    ("field too few", [OPEN, SUBSCRIBE, receives(SUBSCRIBED | {"id": "a"})], "lacks ['id']"),
    (
        "lost precision",
        [OPEN, SUBSCRIBE, receives(SUBSCRIBED), publish(2**63 + 1), delivered(2**63)],
        "9223372036854775809 instead of 9223372036854775808",
    ),
    (
        "float for integer",
        [OPEN, SUBSCRIBE, receives(SUBSCRIBED), publish(2**63 + 1), delivered(float(2**63))],
        "9223372036854775809 instead of 9.2",
    ),
    (
        "one is not true",
        [OPEN, SUBSCRIBE, receives(SUBSCRIBED), publish(1), delivered(True)],
        "1 instead of True",
    ),
    (
        "zero is not null",
        [OPEN, SUBSCRIBE, receives(SUBSCRIBED), publish(0), delivered(None)],
        "0 instead of None",
    ),
    (
        "element too few",
        [OPEN, SUBSCRIBE, receives(SUBSCRIBED), publish([1]), delivered([1, 2])],
        "1 elements instead of 2",
    ),
    (
        "key order",
        [
            OPEN,
            SUBSCRIBE,
            receives(SUBSCRIBED),
            publish({"x": {"b": 1, "a": 2}}),
            delivered({"$in_order": {"x": {"a": 2, "b": 1}}}),
        ],
        "['data']['data']['x']: keys in the order ['b', 'a'] instead of ['a', 'b']",
    ),
    (
        "not closed",
        [OPEN, SUBSCRIBE, receives({"$closed": 4001})],
        "lacks ['$closed']",
    ),
    (
        "other close code",
        [OPEN, {"client": "a", "send_raw": "8100"}, receives({"$closed": 1000})],
        "closed with code 1002",
    ),
    (
        "close frame where there was none",
        [OPEN, {"client": "a", "send_raw": "8100"}, receives({"$closed": None})],
        "closed with code 1002",
    ),
    (
        "closed unnoticed",
        [OPEN, {"client": "a", "send_raw": "8100"}],
        "closed with code 1002",
    ),
    (
        "one id for two",
        [
            OPEN,
            SUBSCRIBE,
            SUBSCRIBE,
            receives(SUBSCRIBED | {"topic": "$ack1"}, SUBSCRIBED | {"topic": "$ack2"}),
        ],
        "'t' instead of '$ack2'",
    ),
    (
        "other id for one",
        [
            OPEN,
            SUBSCRIBE,
            {"client": "a", "send": {"action": "subscribe", "topic": "u"}},
            receives(SUBSCRIBED | {"topic": "$ack1"}, SUBSCRIBED | {"topic": "$ack1"}),
        ],
        "'u' instead of '$ack1'",
    ),
    (
        "no number",
        [OPEN, SUBSCRIBE, receives(SUBSCRIBED | {"topic": "$n"})],
        "'t' instead of '$n'",
    ),
    (
        "name not known",
        [OPEN, {"client": "a", "send": {"action": "ack", "ack_id": "$ack1"}}],
        "$ack1 is not known yet",
    ),
    ("no such step", [OPEN, {"client": "a", "sends": {}}], "no such step"),
    ("no such client", [OPEN, {"client": "b", "send": {}}], "'b' has no connection"),
    ("gone already", [OPEN, {"close": "a"}, SUBSCRIBE], "'a' has no connection"),
    (
        "other id than asked for",
        [{"open": "refserver", "registered": True}],
        "this id is the server's own",
    ),
]


@pytest.mark.parametrize(
    ("steps", "complaint"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG]
)
def test_wrong_vector_fails(steps: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(VectorFailure, match=re.escape(complaint)) as failure:
        run_vector(Vector("wrong on purpose", steps), MemoryTarget())
    assert "'wrong on purpose'" in str(failure.value)


def test_wrong_vector_fails_over_a_socket(url: str) -> None:
    steps = [OPEN, SUBSCRIBE, receives()]
    with pytest.raises(VectorFailure, match=r"step 3.*\n.*1 messages instead of 0"):
        run_over_socket(Vector("something came", steps), url)
    steps[-1] = receives(PUBLISHED)
    with pytest.raises(VectorFailure, match="'subscribed' instead of 'published'"):
        run_over_socket(Vector("other value", steps), url)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("{nope", "is not JSON"), ('{"action":NaN}', "is not JSON: NaN"), ("[]", "[] instead of")],
)
def test_answer_that_is_no_message_fails(text: str, complaint: str) -> None:
    class Liar(MemoryTarget):
        def receive(self, client: str, count: int) -> list[str | int]:
            return [text] if super().receive(client, count) else []

    liar: VectorTarget = Liar()
    steps = [{"open": "a"}, SUBSCRIBE, receives(SUBSCRIBED)]
    with pytest.raises(VectorFailure, match=re.escape(complaint)):
        run_vector(Vector("a lie", steps), liar)
