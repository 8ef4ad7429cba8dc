"""The program's requests for messages of the past (spec, 15.6)."""

from kps.protocol.bus.given import check_topic
from kps.protocol.bus.message import Message, place_messages, put_headers, read_headers
from kps.protocol.calls import verb
from kps.protocol.client.asking import Asking
from kps.protocol.client.pending import HistoryQuestion
from kps.protocol.client.sender import Sender
from kps.protocol.client.state import ClientState
from kps.protocol.dialect import level2
from kps.protocol.dialect.codes import HISTORY
from kps.protocol.dialect.envelope import Fields, text
from kps.protocol.dialect.places import LARGEST_OFFSET, Position, Start, read_standing


class PastRequests:
    """Asks the server for messages of the past, and takes its answers."""

    def __init__(self, state: ClientState, sender: Sender, asking: Asking) -> None:
        self.calls = state.calls
        self._state = state
        self._sender = sender
        self._asking = asking

    @verb
    def ask(self, topic: object, start: Start, now: float) -> HistoryQuestion:
        """Ask for messages of a topic; ``BarrierPassed`` tells that the answer is there.

        Raises ``NotConnected``, ``QueueFull`` and :class:`kps.Unsupported`.
        """
        state, asking = self._state, self._asking
        state.now = now
        topic = check_topic(topic, state.config.limits)
        state.require_link()
        state.require_feature(HISTORY)
        asking.require_room()
        question = HistoryQuestion(asking.pending.new_name("history"), topic)
        message = level2.ask_history(topic, question.name, start.fields())
        self._sender.send_or_refuse(message, droppable=False)
        asking.pending.add(question.name, question)
        return question

    def received(self, fields: Fields, size: int) -> None:
        """Take an answer."""
        question = self._asking.pending.find(text(fields, "nonce"), HistoryQuestion)
        if question is None:
            return
        question.standing = standing = read_standing(fields)
        messages = fields.get("messages")
        kept = messages if type(messages) is list else []
        for one in kept:
            offset = one.get("offset") if type(one) is dict else None
            if type(offset) is int and 1 <= offset <= LARGEST_OFFSET:
                sender = one.get("from")
                named = sender if type(sender) is str else ""
                message = Message(question.topic, one.get("data"), named, size // len(kept))
                place_messages((message,), Position(standing.epoch, offset))
                put_headers((message,), read_headers(one))
                question.messages.append(message)
        self._asking.passed(question.name)
