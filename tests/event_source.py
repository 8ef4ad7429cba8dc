"""A reader of event streams as browsers have it (WHATWG, Server-sent events), without I/O."""

import json
from typing import Any, NamedTuple


class Event(NamedTuple):
    """What a page gets."""

    kind: str
    data: Any
    last_id: str


class EventReader:
    """Reads the bytes of a stream, in any pieces, and keeps what a reconnection needs."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.retry: int | None = None
        self.comments = 0
        self._rest = b""
        self._id, self._kind, self._data = last_id, "", ""

    def feed(self, data: bytes) -> list[Event]:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        events = []
        for line in lines:
            assert not line.endswith(b"\r")
            if (event := self._take(line.decode())) is not None:
                events.append(event)
        return events

    def _take(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            self.comments += 1
        elif name == "id":
            self._id = value
        elif name == "event":
            self._kind = value
        elif name == "data":
            self._data += value + "\n"
        elif name == "retry":
            self.retry = int(value)
        else:
            raise AssertionError(f"a field that browsers do not know: {line}")
        return None

    def _dispatch(self) -> Event | None:
        self.last_id = self._id
        kind, data = self._kind or "message", self._data
        self._kind = self._data = ""
        return Event(kind, json.loads(data), self.last_id) if data else None
