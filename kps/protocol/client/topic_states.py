"""The state of each topic and pattern to which a program subscribes, between client and server.

The program's subscriptions survive reconnects; the server forgets them with the connection::

    WAITING --ask--> ASKED --confirmed--> LIVE
    ASKED --refused temporarily, or no answer--> REFUSED --ask--> ASKED
    REFUSED --confirmed late--> LIVE
    LIVE, ASKED, REFUSED --leave--> LEAVING --confirmed--> (none)
    LEAVING --ask--> ASKED
    ASKED --refused for good--> (none)

When a connection is lost, every topic becomes WAITING, and topics that are LEAVING are removed.
The server answers questions about one topic in order, so only the last answer counts.
"""

from enum import Enum, auto

from kps.protocol.dialect.places import Start


class TopicState(Enum):
    """The states of one topic."""

    WAITING = auto()
    """There is no connection."""
    ASKED = auto()
    """The server has not answered yet."""
    LIVE = auto()
    """The server has confirmed the subscription."""
    REFUSED = auto()
    """The server refused it temporarily; the client will ask again."""
    LEAVING = auto()
    """The program unsubscribed, and the server has not confirmed that yet."""


class Verdict(Enum):
    """What an answer of the server means for a topic."""

    PENDING = auto()
    """Nothing: another answer is due, or the client asked nothing."""
    SETTLED = auto()
    """The server has answered all questions."""
    RETRY = auto()
    """The server refused it temporarily, and the client will ask again."""
    FINAL = auto()
    """The server refused it for good."""
    PARTLY = auto()
    """The server refused to tell who is subscribed; the subscription goes on."""


class Topic:
    """A topic or pattern of the program."""

    __slots__ = ("adds_presence", "answer_by", "concurrency", "has_been_live", "is_missing",
                 "is_narrow", "is_reported", "joins", "leaves", "resumes", "start",
                 "state")  # fmt: skip

    def __init__(self) -> None:
        self.state = TopicState.WAITING
        self.joins = 0  # pending questions to subscribe
        self.leaves = 0  # pending questions to unsubscribe
        self.answer_by = 0.0  # when the client gives up waiting for the answers
        self.has_been_live = False
        self.is_reported = False  # whether the program knows of a refusal on this connection
        self.concurrency = 1  # how much a member of a group takes
        self.start: Start | None = None  # with what of the past the program wants it to begin
        self.adds_presence = False  # whether the last question only adds that to what is live
        self.is_missing = False  # whether messages may have been missed, on an earlier connection
        self.is_narrow = False  # whether the server has refused to be told many places
        self.resumes = False  # whether the last question asked for all behind a place

    @property
    def open_questions(self) -> int:
        return self.joins + self.leaves

    def answered(self, *, joins: bool) -> bool:
        """Count an answer; tell whether a question of that kind was pending."""
        if joins and self.joins:
            self.joins -= 1
        elif not joins and self.leaves:
            self.leaves -= 1
        else:
            return False
        return True
