"""One end of the link between two nodes: numbered chunks, a greeting, and a heartbeat.

Both ends choose a token whenever they begin. A chunk counts only if it carries the tokens of both,
so nothing of an earlier time can come in. A gap in the numbers, a full queue and silence make an
end begin anew; the other end notices, and does, too. Between two beginnings the link is *up*: what
one end sends then arrives whole, once and in order, or the link falls.
"""

from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Protocol

from kps.protocol.cluster.config import ClusterConfig
from kps.protocol.cluster.frames import Assembler, Frame
from kps.protocol.cluster.seal import Seal
from kps.protocol.dialect.envelope import InvalidMessage, load, write

_HEAD = Struct(">BQQQ")  # kind of chunk, token of the sender, of the receiver, number
VERSION = 1
"""Of what nodes tell each other. All nodes of this version understand all of it."""
ENDED = "the node has ended"
"""Why a link falls in good order."""
LOST = "the connection is lost"
"""Why a link falls whose carrier has broken."""

_GREETING, _DATA, _FAREWELL = 1, 2, 3


class Listener(Protocol):
    """Whoever is told of a link."""

    def rose(self, link: "Link") -> None:
        """Note that the link is up."""

    def fell(self, link: "Link", reason: str) -> None:
        """Note that the link is not up any more. What waited for the other node is lost."""

    def got_forged(self, link: "Link") -> None:
        """Note that a chunk has come whose signature is wrong: the first one of all."""

    def received(self, link: "Link", frame: Frame) -> None:
        """Take a frame."""

    def has_output(self, link: "Link") -> None:
        """Note that there is something to take for the carrier."""


class Link:
    """One end of the link to one other node, whatever carries its chunks.

    ``new_token`` returns an unpredictable number of 64 bits that is not 0.
    """

    def __init__(
        self,
        me: str,
        node: str,
        config: ClusterConfig,
        listener: Listener,
        new_token: Callable[[], int],
    ) -> None:
        self.node = node
        """The name of the other node."""
        self.is_up = False
        self.version = VERSION
        """The version that the other node has told; nothing depends on it yet."""
        self.lost = 0
        """Frames that were not sent because the link fell."""
        self._me = me
        self._config = config
        self._listener = listener
        self._new_token = new_token
        self._seal = Seal(config.secret)
        self._has_forged = False  # whether a chunk has come whose signature was wrong
        self._is_open = False  # whether there is a carrier, and no farewell was said
        self._is_rising = False  # whether the node is being told all that there is
        self._mine = new_token()
        self._theirs = 0
        self._sent = self._taken = 0  # numbers of chunks
        self._assembler = Assembler()
        self._ready: deque[bytes] = deque()  # chunks
        self._frames: list[bytes] = []
        self._size = 0
        self._spoke = self._heard = self._looked = 0.0
        self._rests_until = 0.0

    # -- the carrier ------------------------------------------------------------------------

    def open(self, now: float) -> None:
        """Begin, because there is a carrier."""
        self._is_open = True
        self._heard = now
        self._greet(now)

    def close(self) -> None:
        """End, because the carrier has broken."""
        self._is_open = False
        self._begin_anew(LOST)
        self._ready.clear()

    def receive(self, chunk: bytes, now: float) -> None:
        """Take a chunk that the other node has sent."""
        if not self._is_open or now < self._rests_until:
            return
        body = self._seal.open(chunk)
        if body is None or len(body) < _HEAD.size:
            if not self._has_forged:
                self._has_forged = True
                self._listener.got_forged(self)
            return
        kind, theirs, mine, number = _HEAD.unpack_from(body)
        if kind == _GREETING:
            self._greeted(theirs, mine, body[_HEAD.size :], now)
        elif theirs != self._theirs or mine != self._mine:
            self._greet(now)  # it does not know that we have begun anew
        elif kind == _FAREWELL:
            self._begin_anew(ENDED)
        else:
            self._heard = now
            self._rise()
            if number <= self._taken:
                return  # it comes once more
            if number != self._taken + 1:
                self.fail(f"chunk {number} came in place of {self._taken + 1}", now)
                return
            self._taken = number
            for frame in self._assembler.feed(body[_HEAD.size :]):
                self._listener.received(self, frame)
                if mine != self._mine:
                    return  # it has fallen meanwhile

    def take(self, now: float) -> list[bytes]:
        """Return the chunks for the carrier."""
        self._number_frames(now)
        ready = list(self._ready)
        self._ready.clear()
        return ready

    def _number_frames(self, now: float) -> None:
        frames, self._frames, self._size = self._frames, [], 0
        if frames:
            data, most = b"".join(frames), self._config.max_chunk
            for begin in range(0, len(data), most):
                self._number(data[begin : begin + most], now)

    # -- this node --------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Send a frame while the link is up and no farewell was said; otherwise it is lost."""
        if not self.is_up or not self._is_open:
            return
        self._frames.append(frame)
        self._size += len(frame)
        if self._size > self._config.max_queue and not self._is_rising:
            self.fail("too much waits for the node", self._spoke)
        self._listener.has_output(self)

    def say_farewell(self, now: float) -> None:
        """End, behind what was sent, so that the other node does not take this for a silence.

        For that one the link may be up already while it is not for this one. And nothing that
        comes after this makes it rise again.
        """
        self._is_open = False
        if self._theirs:
            self._number_frames(now)
            self._put(_HEAD.pack(_FAREWELL, self._mine, self._theirs, 0), now)
            self._listener.has_output(self)

    def fail(self, reason: str, now: float) -> None:
        """Begin anew, because nothing can be trusted any more."""
        self._begin_anew(reason)
        if self._is_open:
            self._greet(now)

    def rest(self, reason: str, now: float) -> None:
        """Begin anew a heartbeat later, because the same thing may happen again at once."""
        self._begin_anew(reason)
        self._spoke = now
        self._rests_until = now + self._config.heartbeat

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is due."""
        if not self._is_open:
            return None
        heartbeat = self._config.heartbeat
        beat = self._spoke + heartbeat
        if not self.is_up:
            return beat
        return min(beat, self._awake_at + heartbeat, self._heard + self._config.patience)

    def handle_timeout(self, now: float) -> None:
        """Say that this node lives, or notice that the other one does not."""
        if not self._is_open:
            return
        # While this node stood still, it read nothing: that was no silence of the other one.
        self._heard += max(0.0, now - self._awake_at - self._config.heartbeat)
        self._looked = now
        if self.is_up and now >= self._heard + self._config.patience:
            self.fail("the node is silent", now)
        elif now >= self._spoke + self._config.heartbeat:
            if self.is_up:
                self._number(b"", now)
                self._listener.has_output(self)
            else:
                self._greet(now)

    # -- within -----------------------------------------------------------------------------

    @property
    def _awake_at(self) -> float:
        """When this node last did something for the link, and so did not stand still."""
        return max(self._heard, self._looked)

    def _greeted(self, theirs: int, mine: int, about: bytes, now: float) -> None:
        if not self._is_of_this_cluster(about):
            return
        if theirs != self._theirs:
            if self.is_up and mine != self._mine:
                self._greet(now)  # only who knows our token now is the node, and no recording
                return
            if self.is_up:  # or our token is unused, and two ends could chase each other
                self._begin_anew("the node has begun anew")
            self._theirs = theirs
        self._heard = now
        if mine == self._mine:
            self._rise()
        else:
            self._greet(now)

    def _is_of_this_cluster(self, about: bytes) -> bool:
        try:
            said = load(about)
        except InvalidMessage:
            return False
        if type(said) is not list or said[:3] != [self._config.name, self.node, self._me]:
            return False
        if len(said) > 3 and type(said[3]) is int:  # a later version may say more
            self.version = said[3]
        return True

    def _rise(self) -> None:
        if not self.is_up:
            # What a new node is told is no sign that it is slow. If it counted, a node with much
            # history could never be reached again.
            self.is_up = self._is_rising = True
            self._listener.rose(self)
            self._is_rising, self._size = False, 0
            self._number(b"", self._heard)  # so that the other end rises, too
            self._listener.has_output(self)

    def _begin_anew(self, reason: str) -> None:
        was_up, self.is_up = self.is_up, False
        self._mine, self._theirs = self._new_token(), 0
        self._sent = self._taken = 0
        self._assembler = Assembler()
        self.lost += len(self._frames)
        self._frames, self._size = [], 0
        self._ready.clear()
        if was_up:
            self._listener.fell(self, reason)

    def _greet(self, now: float) -> None:
        about = write([self._config.name, self._me, self.node, VERSION])
        self._put(_HEAD.pack(_GREETING, self._mine, self._theirs, 0) + about, now)
        self._listener.has_output(self)

    def _number(self, data: bytes, now: float) -> None:
        self._sent += 1
        self._put(_HEAD.pack(_DATA, self._mine, self._theirs, self._sent) + data, now)

    def _put(self, body: bytes, now: float) -> None:
        self._spoke = now
        self._ready.append(self._seal.close(body))
