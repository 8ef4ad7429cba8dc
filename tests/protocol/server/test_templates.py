"""A server reads messages that are written alike by templates: nobody can tell."""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.protocol.dialect.server import LEVEL_2
from kps.protocol.server import inbox
from kps.protocol.server.templates import Template
from kps.protocol.server_limits import ServerLimits
from tests.protocol.helpers import BINARY, TEXT, THOROUGH, Peer, Stage, frame

PAYLOADS = st.sampled_from(
    [
        *(b'{"n":1}', b"1.00", b"[ ]", b' "x" ', b"null", b'"\\ud83d\\ude00"', b"[1,[2,[3]]]"),
        *(b'{"data":1,"ack_id":"b"}', b"12345678901234567890123", b'{"a":1,"a":2}', b"\t\r\n1 "),
        # Not JSON, alone or together with others.
        *(b"1,2", b"[1", b"2]", b'{"a":1', b'"b":2}', b"", b"1e400", b'"\\ud800"', b"nul", b'"'),
        *(b"\\", b'1,"data":2', b'1},{"action":"publish","topic":"t","data":2', b"\x0b1", b"1\xa0"),
        # Deep, and long.
        *(b"[" * depth + b"1," * 300 + b"1" + b"]" * depth for depth in (4, 5, 6, 128, 129, 300)),
    ]
)
IDS = st.sampled_from(
    [
        *(b"a", b"ack_1", b"b", b"", b"\xc3\xa9", b'\\"', b"\\u0061", b'a","b', b"a\\", b"\x7f"),
        *(b"\xff", b"a b", b"\n"),
        b"x" * 300,
    ]
)
ASK = b'{"action":"publish_with_ack","topic":"t","data":1,"ack_id":"%b"}'
TASK = (
    b'{"action":"publish_with_ack","topic":"t","data":%b,"ack_id":"%b","updates":true,"retry":%b,'
    b'"key":"k","expect":["two",{"group":"g"},{"group":"none"}]}'
)
ACK = b'{"action":"ack","ack_id":%b,"data":{"ack_id":"ack_1","success":true},"success":true}'
PUBLICATION = b'{"action":"publish","topic":"%b","data":%b}'
ENDS = st.sampled_from(
    [
        *(b"}", b" }", b',"from":"z"}', b',"data":7}', b',"topic":"u"}', b"", b"}}"),
        *(b',"headers":{"a":"1"}}', b',"headers":{"a":"2"}}', b',"headers":{"a":1}}'),
        *(b',"headers":{}}', b',"headers":null}', b',"headers":"%b"}' % (b"x" * 100)),
    ]
)
DEMANDS = st.sampled_from(
    [
        *(b"", b"", b',"retry":2', b',"key":"k"', b',"key":"k","retry":1', b',"timeout":2'),
        *(b',"expect":["two","x"]', b',"expect":["x",{"group":"g"},{"group":"y"}]'),
        *(b',"expect":{"group":"g"}', b',"retry":-1', b',"key":5'),
    ]
)
FAILED = b'"success":false,"error":"no"'
SPACE = st.sampled_from([b"", b"", b"", b" "])


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Draw a message, most of which are like others."""
    space, end = draw(SPACE), draw(st.just(b"}") | ENDS)
    topic = draw(st.sampled_from([b"t", b"t", b"t", b"u", b"_t"]))
    payload, ack_id = draw(PAYLOADS), draw(IDS)
    kind = draw(st.sampled_from(["publish", "publish", "batch", "ask", "ask id", "ack", "other"]))
    demands = draw(DEMANDS)
    if kind == "publish":
        return b'{"action":"publish",%b"topic":"%b","data":%b%b' % (space, topic, payload, end)
    if kind == "batch":
        inner = b",".join(draw(st.lists(PAYLOADS, max_size=3)))
        return b'{"action":"publish",%b"topic":"%b","batch":[%b]%b' % (space, topic, inner, end)
    if kind == "ask":
        return (
            b'{"action":"publish_with_ack","topic":"%b","data":%b,%b"ack_id":"%b","updates":true%b%b'
            % (topic, payload, space, ack_id, demands, end)
        )
    if kind == "ask id":
        return b'{"ack_id":"%b","action":"publish_to_id_with_ack","data":%b,"to":"%b"%b' % (
            ack_id, payload, draw(st.sampled_from([b"two", b"nobody"])), end
        )  # fmt: skip
    if kind == "ack":
        return b'{"action":"ack","ack_id":"ack_%d%b",%b%b' % (
            draw(st.integers(1, 4)), draw(st.sampled_from([b"", b".1", b".1", b".2"])),
            draw(st.sampled_from([b'"success":true', b'"success":true', FAILED])), end,
        )  # fmt: skip
    return draw(
        st.sampled_from(
            [
                *(b'{"action":"subscribe","topic":"t"}', b"7", b"[]", b"{}"),
                b'{"action":"subscribe","topic":"t","group":"g"}',
                b'{"action":"unsubscribe","topic":"t","group":"g"}',
            ]
        )
    )


@st.composite
def reads(draw: st.DrawFn) -> bytes:
    """Draw what comes in one read: frames of one message each, or of arrays."""
    frames = draw(st.lists(st.lists(messages(), min_size=1, max_size=6), min_size=1, max_size=6))
    opcode = draw(st.sampled_from([TEXT, TEXT, BINARY]))
    if draw(st.booleans()):
        return b"".join(frame(one, opcode=opcode) for some in frames for one in some)
    return b"".join(frame(b"[%b]" % b",".join(some), opcode=opcode) for some in frames)


@contextmanager
def without_templates() -> Iterator[None]:
    with patch.object(inbox, "KINDS", frozenset()):
        yield


class Server:
    """A server with subscribers of each level, a member of a group, and clients that speak."""

    def __init__(self, level: int, limits: ServerLimits) -> None:
        self.stage = Stage(limits=limits)
        self.peers = [
            self._peer("one", 1, "t"), self._peer("two", 2, "t"), self._peer("writer", level)
        ]  # fmt: skip
        self.peers[1].ask({"action": "subscribe", "topic": "t", "group": "g"})
        self.strangers = [self.stage.peer().upgrade()]
        """A client that has not registered."""

    def _peer(self, name: str, level: int, topic: str = "") -> Peer:
        peer = self.stage.peer().upgrade()
        peer.send({"action": "ping", "from": name, "proto": level})
        if topic:
            peer.send({"action": "subscribe", "topic": topic})
        peer.read()
        return peer

    def hear(self, data: bytes) -> list[bytes]:
        """Let several clients send the same; return all output."""
        for peer in (self.peers[2], self.peers[1], *self.strangers):
            peer.feed(data)
            self.stage.finish()
        return [peer.read() for peer in (*self.peers, *self.strangers)]


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.slow
class TestNobodyCanTell:
    @THOROUGH
    @given(st.lists(reads(), min_size=1, max_size=5), st.sampled_from([5, 128]))
    def test_that_messages_are_read_by_templates(
        self, level: int, given_reads: list[bytes], depth: int
    ) -> None:
        limits = ServerLimits(max_depth=depth, max_ack_id=200, max_batch=4)
        with without_templates():
            plain = Server(level, limits)
            expected = [plain.hear(data) for data in given_reads]
        server = Server(level, limits)
        assert [server.hear(data) for data in given_reads] == expected
        figures = [
            [(each.session.received, each.session.delivered) for each in one.peers]
            for one in (server, plain)
        ]
        assert figures[0] == figures[1]
        assert server.stage.hub.stats == plain.stage.hub.stats


class TestTemplates:
    @pytest.mark.pure("it replaces a part of the core")
    @pytest.mark.parametrize("level", [1, 2])
    @pytest.mark.parametrize(
        "message",
        [
            b'{"action":"publish","topic":"t","data":%d}',
            b'{"action":"publish","data":%d,"from":"me","topic":"t"}',
            b'{"action": "publish", "data": %d, "topic": "t"}',
            b'{"action":"publish_with_ack","topic":"u","data":{"x":1},"ack_id":"a-%d","timeout":5.0}',
            b'{"action":"publish_with_ack","topic":"t","data":1,"ack_id":"%d","retry":2,"key":"k"}',
        ],
        ids=["ours", "another order", "with spaces", "an ack request", "for a group"],
    )
    def test_are_used_from_the_third_message_on(self, level: int, message: bytes) -> None:
        """A message may well come alone, and two may be alike by chance."""
        seen: list[bytes] = []
        server = Server(level, ServerLimits())
        for number in range(5):
            with patch.object(Template, "part", _noted(seen)):
                server.hear(frame(message % number))
        assert len(seen) >= 3

    @pytest.mark.parametrize("level", [1, 2])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    @pytest.mark.parametrize(
        ("alike", "odd"),
        [
            (ASK % b"a-%d", ASK % b""),
            (TASK % (b"1", b"a-%d", b"2"), TASK % (b"1", b"b", b"-2")),
            (
                ASK.replace(b"1,", b'1,"group":"g","pattern":"p",') % b"a-%d",
                ASK.replace(b"1,", b'1,"group":"g","pattern":"p",') % b"a-1",
            ),
            (PUBLICATION % (b"t", b'%d,"receipt":""'), PUBLICATION % (b"t", b'7,"receipt":""')),
            (TASK % (b"[%d]", b"a-%d", b"2"), TASK % (b"1", b"a-1", b"2")),
            (TASK % (b"%d", b"a-%d", b"2"), ASK % b"b"),
            (TASK % (b"%d", b"a-%d", b"2"), b'{"action":"ack","ack_id":"ack_1.1"}'),
            (ASK % b"a-%d", ASK % b"\xff"),
            (ASK % b"a-%d", ASK % b'a","ack_id":"b'),
            (b'{"action":"ack","ack_id":"%d","success":true}', b'{"action":"ack","ack_id":""}'),
            (ACK % b"null", ACK % b"nXl"),
            (ACK % b'"a"', ACK % b'""'),
            (PUBLICATION % (b"t", b"%d"), PUBLICATION % (b"t", b'0,"batch":[1,2]')),
            (PUBLICATION % (b"t", b"%d"), PUBLICATION % (b"t", b"\xff")),
            (PUBLICATION % (b"t", b"%d"), PUBLICATION % (b"t", b"")),
            (PUBLICATION % (b"t", b'{"x":%d}'), PUBLICATION % (b"t", b'{"x":1},"y":{}')),
            (PUBLICATION % (b"t", b"%d"), PUBLICATION % (b"t", b'1,"headers":{"a":"b"}')),
            (PUBLICATION % (b"t", b'%d,"headers":{"a":"b"}'), PUBLICATION % (b"t", b"1")),
            (
                PUBLICATION % (b"t", b'%d,"headers":{"a":"b"}'),
                PUBLICATION % (b"t", b'1,"headers":{"a":"c"}'),
            ),
            (
                b'{"action":"publish","headers":{"a":"%d"},"topic":"t","data":1}',
                b'{"action":"publish","headers":{"a":5},"topic":"t","data":1}',
            ),
            (
                ASK.replace(b"1,", b'1,"headers":{"a":"b"},') % b"a-%d",
                ASK.replace(b"1,", b'1,"headers":{"a":"c"},') % b"b",
            ),
            (
                ASK.replace(b"1,", b'1,"headers":{"a":"b"},') % b"a-%d",
                ASK % b"b",
            ),
            (
                b'{"action":"publish","topic":"t","batch":[%d]}',
                b'{"action":"publish","topic":"t","batch":{}}',
            ),
        ],
    )
    def test_odd_messages_behind_those_that_are_alike(
        self, level: int, opcode: int, alike: bytes, odd: bytes
    ) -> None:
        sent = [alike.replace(b"%d", b"%d" % number) for number in range(5)] + [odd, odd]
        for data in (
            [frame(one, opcode=opcode) for one in sent],
            [b"".join(frame(one, opcode=opcode) for one in sent)],
            [*map(frame, sent[:4]), frame(b"[%b]" % b",".join(sent[4:]), opcode=opcode)],
        ):
            with without_templates():
                plain = Server(level, ServerLimits())
                expected = [plain.hear(one) for one in data]
            server = Server(level, ServerLimits())
            assert [server.hear(one) for one in data] == expected

    @pytest.mark.parametrize("level", [1, 2])
    def test_very_many_in_an_array_take_several_turns(self, level: int) -> None:
        for around in (b"[%b]", b"[ %b ]"):
            many = [PUBLICATION % (b"t", b"%d" % number) for number in range(4)]
            many += [ASK % (b"a-%d" % number) for number in range(4000)]
            data = [*map(frame, many[:8]), frame(around % b",".join(many[8:]))]
            with without_templates():
                plain = Server(level, ServerLimits())
                expected = [plain.hear(one) for one in data]
            server = Server(level, ServerLimits())
            assert [server.hear(one) for one in data] == expected

    def test_keep_little(self) -> None:
        """However large what they are made of is."""
        server = Server(2, ServerLimits())
        (_, _, writer) = server.peers
        for number in range(40):
            large = b"1" * (200_000 if number % 2 else 1_500)
            for message in (
                PUBLICATION % (b"t%d" % (number // 4), b'"%b"' % large),
                b'{"action":"publish_with_ack","topic":"u","data":"%b","x":"%b","ack_id":"%d"}'
                % (large, large, number),
                b'{"action":"publish","topic":"%b","data":1}' % large,
            ):
                writer.feed(frame(message) * 4)
                server.stage.finish()
        templates = writer.session.inbox._templates
        assert templates is not None
        kept = len(pickle.dumps([templates.known, templates._last, templates._without]))
        assert kept < 1_500

    def test_are_dropped_with_the_dialect(self) -> None:
        server = Server(1, ServerLimits())
        (_, _, writer) = server.peers
        for number in range(4):
            writer.feed(frame(PUBLICATION % (b"t", b"%d" % number)))
        assert writer.session.inbox._known
        writer.session.speak(LEVEL_2)
        assert not writer.session.inbox._known

    def test_an_idle_client_has_none(self) -> None:
        server = Server(2, ServerLimits())
        assert server.peers[0].session.inbox._templates is None


def _noted(seen: list[bytes]) -> object:
    part = Template.part

    def noted(self: Template, message: bytes) -> bytes | None:
        found = part(self, message)
        if found is not None:
            seen.append(found)
        return found

    return noted
