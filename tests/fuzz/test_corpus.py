"""All kept inputs through their harnesses; and whether these notice a core that is broken."""

import base64
import json
from collections.abc import Iterable
from types import SimpleNamespace

import orjson
import pytest

from kps.protocol.bus.acks import AckBook
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.client.asking import Asking
from kps.protocol.client.flow import Flow
from kps.protocol.client.pending import Pending
from kps.protocol.client.presence import MembersOfTopics
from kps.protocol.client.sender import Sender
from kps.protocol.client.topics import Topics
from kps.protocol.dialect import envelope
from kps.protocol.server import intake, presence
from kps.protocol.server.connection import WebSocketConnection
from kps.protocol.server.gate import Gate
from kps.protocol.server.presence import PresenceBook
from kps.protocol.server.run import Run
from kps.protocol.server.throttle import Throttle
from kps.protocol.wire import client_handshake, deflate, frames, reader
from kps.protocol.wire.keepalive import Keepalive
from tests.fuzz.corpus import HARNESSES, corpus_file, load_corpus, load_regressions

MOST_BYTES = 1_000_000


def run_corpus(harness: str, more: Iterable[bytes] = ()) -> None:
    for one in [*load_regressions(harness).values(), *load_corpus(harness), *more]:
        try:
            HARNESSES[harness].one_input(one)
        except Exception as error:
            error.add_note(f"{harness}, input {base64.b64encode(one).decode()}")
            raise


@pytest.mark.parametrize("harness", HARNESSES)
def test_corpus(harness: str) -> None:
    assert load_corpus(harness)
    run_corpus(harness, HARNESSES[harness].seeds())


@pytest.mark.parametrize(
    ("harness", "data"),
    [
        pytest.param(harness, data, id=name)
        for harness in HARNESSES
        for name, data in load_regressions(harness).items()
    ],
)
def test_regression(harness: str, data: bytes) -> None:
    HARNESSES[harness].one_input(data)


def test_corpus_stays_small() -> None:
    assert sum(corpus_file(harness).stat().st_size for harness in HARNESSES) < MOST_BYTES


INEXACT = SimpleNamespace(
    loads=lambda frame: json.loads(frame, parse_int=float),
    dumps=orjson.dumps,
    JSONDecodeError=ValueError,
)


def look_at_many(self: Mailbox, part: float) -> bool:
    """For each of many mailboxes, look at many."""
    return any(self.is_over for _ in range(200))


@pytest.mark.pure("it replaces a part of the core")
@pytest.mark.parametrize(
    ("harness", "owner", "name", "broken"),
    [
        ("frames", frames, "is_utf8", lambda payload: True),
        ("frames", reader.FrameReader, "_claims_too_much", lambda self, length: False),
        ("frames", frames, "mask", lambda payload, key: payload),
        ("deflate", reader, "is_utf8", lambda payload: True),
        ("deflate", deflate, "_LARGEST", 10),
        ("envelope", envelope, "orjson", INEXACT),
        ("http", client_handshake.ClientWebSocket, "_refuse", lambda self, reason, now: None),
        ("server", AckBook, "drop_subscriber", lambda self, subscriber: None),
        ("server", WebSocketConnection, "_changed", lambda self, before: None),
        ("server", Gate, "end", lambda self: False),
        ("server", Keepalive, "pause", lambda self, now: None),
        ("server", Run, "finish", lambda self: None),
        ("server", Throttle, "handle_timeout", lambda self, now: False),
        ("server", intake, "_CONTROL", 0),
        ("server", intake, "_FRAME", 0),
        ("server", PresenceBook, "ignore", lambda self, subscriber, topic: None),
        ("server", PresenceBook, "renamed", lambda self, subscriber, previous: None),
        ("server", presence.Roster, "_describe_changes", lambda self: b""),
        ("client", MembersOfTopics, "forget_unobserved", lambda self, key: None),
        ("client", Asking, "end_all", lambda self, error: None),
        ("client", Sender, "keep", lambda self, unsent: 0),
        ("client", Topics, "disconnected", lambda self: None),
        ("client", Topics, "_retry_later", lambda self: None),
        ("client", Flow, "_relieved", lambda self, mailbox: None),
        ("client", Mailbox, "fills", look_at_many),
        ("client", Pending, "new_name", lambda self, kind: f"{kind}_1"),
    ],
)
def test_corpus_notices(
    harness: str, owner: object, name: str, broken: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises((AssertionError, AttributeError, KeyError)):
        run_corpus(harness, HARNESSES[harness].seeds())
