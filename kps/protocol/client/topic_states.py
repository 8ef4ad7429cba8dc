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
from typing import NamedTuple

from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.dialect.places import Start
from kps.protocol.dialect.requests import PresenceWish


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
    EXTRA = auto()
    """It concerns only what one subscription wants besides; the topic goes on as it is."""


class Extra:
    """A question for something besides what the server has been asked: about presence.

    So a subscription can end that wants too much, and others to the same topic go on.
    """

    __slots__ = ("asker", "wish")

    def __init__(self, wish: PresenceWish) -> None:
        self.asker: Mailbox | None = None
        """The subscription that wants it; ``None``: the program wants less."""
        self.wish = wish
        """What it is."""


class Refusal(NamedTuple):
    """What a refusal of the server means for a topic."""

    verdict: Verdict
    was_reported: bool
    """Whether the program knows of a refusal already."""
    extra: Extra | None = None
    """The question that was refused, if the verdict is ``EXTRA``."""


class Topic:
    """A topic or pattern of the program."""

    __slots__ = ("answer_by", "concurrency", "extras", "has_been_live", "info", "is_granted",
                 "is_missing", "is_narrow", "is_reported", "joins", "leaves", "resumes", "start",
                 "state")  # fmt: skip

    def __init__(self) -> None:
        self.state = TopicState.WAITING
        self.joins = 0  # pending questions to subscribe
        self.leaves = 0  # pending questions to unsubscribe
        self.extras: list[Extra] = []  # pending questions behind those to subscribe
        self.answer_by = 0.0  # when the client gives up waiting for the answers
        self.has_been_live = False
        self.is_granted = False  # whether an extra question was confirmed on this connection
        self.is_reported = False  # whether the program knows of a refusal on this connection
        self.concurrency = 1  # how much a member of a group takes
        self.info: bytes | None = None  # what the client says about itself, as JSON
        self.start: Start | None = None  # with what of the past the program wants it to begin
        self.is_missing = False  # whether messages may have been missed, on an earlier connection
        self.is_narrow = False  # whether the server has refused to be told many places
        self.resumes = False  # whether the last question asked for all behind a place

    @property
    def open_questions(self) -> int:
        return self.joins + self.leaves + len(self.extras)

    @property
    def is_decided(self) -> bool:
        """Whether the server has answered whether it has the subscription."""
        return not self.joins and not self.leaves

    def answer_extra(self, *, joins: bool) -> Extra | None:
        """Take an answer as that to an extra question, if it is one."""
        return self.extras.pop(0) if joins and not self.joins and self.extras else None

    @property
    def is_to_be_ignored(self) -> bool:
        """Whether the last question about its members, if one is open, tells to ignore them."""
        asked = [extra.wish.observes for extra in self.extras if extra.wish.observes is not None]
        return asked[-1:] == [False]

    def say(self, info: bytes | None) -> None:
        """Note what the client says about itself, if it is new: later than all questions."""
        if info is not None:
            self.info = info
            for extra in self.extras:
                extra.wish = extra.wish._replace(info=None)

    def grant(self, extra: Extra) -> None:
        """Note that the server has confirmed a question, which is open no more."""
        if extra.wish.info is not None:
            self.info = extra.wish.info

    def forget_questions(self) -> None:
        """Expect no answers any more. On the next connection, ask for all that is wanted."""
        self.joins = self.leaves = 0
        for extra in self.extras:
            self.grant(extra)
        self.extras.clear()

    def answered(self, *, joins: bool) -> bool:
        """Count an answer; tell whether a question of that kind was pending."""
        if joins and self.joins:
            self.joins -= 1
        elif not joins and self.leaves:
            self.leaves -= 1
        else:
            return False
        return True
