"""A hub that remembers what was published on it."""

from collections.abc import Callable
from functools import partial
from typing import Any

from kps.protocol.bus.ack_request import AckOwner, Keeper
from kps.protocol.bus.message import Message, add_headers
from kps.protocol.bus.publication import Publication
from kps.protocol.bus.topics import Bus
from kps.protocol.dialect.envelope import load
from kps.protocol.dialect.requests import Ask
from kps.protocol.server.config import HubConfig
from kps.protocol.server.delivery import IGNORED, Delivery, Direct, Refusal
from kps.protocol.server.hub import Hub
from kps.protocol.server.local import LocalProgram
from kps.protocol.server.state import Parts, ServerState
from kps.protocol.timers import Deadlines


class Record:
    """What was published so far, in order."""

    def __init__(self) -> None:
        self.publications: list[Message[Any]] = []
        self.direct: list[tuple[str, Message[Any]]] = []
        """Direct messages, and the id that each was for."""

    def add(self, publication: Publication) -> None:
        """Note a publication."""
        topic, sender = publication.topic, publication.sender
        messages = [Message(topic, load(data), sender) for data in publication.payloads()]
        add_headers(messages, publication.headers)
        self.publications += messages

    def add_direct(self, to: str, sender: str, data: bytes, headers: bytes) -> None:
        """Note a direct message."""
        message: Message[Any] = Message("", load(data), sender)
        add_headers((message,), headers)
        self.direct.append((to, message))


class RecordedHub(Hub):
    """A hub that notes each message which it passes on."""

    def __init__(
        self, config: HubConfig, *, new_id: Callable[[], str], now: float, record: Record
    ) -> None:
        parts = Parts(bus=partial(_RecordedBus, record=record))
        new_delivery = partial(_RecordedDelivery, record=record)
        super().__init__(config, new_id=new_id, now=now, parts=parts, new_delivery=new_delivery)


class _RecordedBus(Bus):
    def __init__(self, deadlines: Deadlines, record: Record) -> None:
        super().__init__(deadlines)
        self._record = record

    def publish(self, publication: Publication) -> int:
        reached = super().publish(publication)  # which queues it, or raises
        self._record.add(publication)
        return reached


class _RecordedDelivery(Delivery):
    def __init__(self, state: ServerState, local: LocalProgram, record: Record) -> None:
        super().__init__(state, local)
        self._record = record

    def send_direct(self, client_id: str, direct: Direct, refuse: Refusal = IGNORED) -> bool:
        is_known = super().send_direct(client_id, direct, refuse)
        self._record.add_direct(client_id, *direct)
        return is_known

    def ask_id(self, owner: AckOwner, sender: str, ask: Ask, keeper: Keeper | None = None) -> None:
        super().ask_id(owner, sender, ask, keeper)
        self._record.add_direct(ask.target, sender, ask.data, ask.headers)
