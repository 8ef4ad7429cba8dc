"""What the bus has had last of each topic, so that retained messages do not come again."""

from collections import OrderedDict

_MOST = 100_000  # topics


class Latest:
    """Remembers the latest payload of topics, as a number."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._payloads: OrderedDict[str, int] = OrderedDict()

    def note(self, topic: str, payload: bytes) -> None:
        """Note what the bus has been given."""
        self._payloads[topic] = hash(payload)
        self._payloads.move_to_end(topic)
        if len(self._payloads) > self._most:
            self._payloads.popitem(last=False)

    def is_known(self, topic: str, payload: bytes) -> bool:
        """Tell whether this is what the bus has had last of a topic."""
        return self._payloads.get(topic) == hash(payload)
