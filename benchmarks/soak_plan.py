"""What is sent in the soak, and the files in which single messages are followed."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

SLOW_READERS = ("slow-2", "slow-1")
"""One on each level."""
CHURN = ("churn/0", "churn/1")
"""For each of these, on each server, there is one client at a time that comes and goes."""
HEAVY = "heavy"
BULK = "bulk"
RELAYED = "relayed"
ASK = "ask"
KILLED = "killed"
"""What those publish who are killed in the middle of it."""
STABLE_ON_CHURN = ("sub-2", "sub-1")
"""Who reads the topics of those that come and go, all the time."""


@dataclass(frozen=True)
class Stream:
    """Numbered messages of one publisher on a topic of their own."""

    topic: str
    rate: float
    """Messages a second."""
    burst: int = 1
    """Messages that are published without a pause, so that they travel together."""
    size: int = 40
    """Characters of text in each."""
    publisher: str = "pub-2"
    has_receipts: bool = False
    """Whether each is published with a receipt, which is kept."""


@dataclass(frozen=True)
class Site:
    """One server, with everybody around it."""

    policy: str
    address: str
    next_address: str = ""
    """The server to which some messages are relayed, if there is one."""

    @property
    def drops(self) -> bool:
        """Whether slow readers lose messages rather than their connection."""
        return self.policy != "close"


@dataclass(frozen=True)
class Plan:
    """What each process of the soak is told."""

    sites: Sequence[Site]
    folder: str
    """Where the files of single messages are."""
    rate: float
    """Small messages a second, on each server."""
    life: int
    """Seconds after which every process ends in any case."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        fields = json.loads(text)
        sites = [Site(**site) for site in fields.pop("sites")]
        return cls(sites=sites, **fields)

    def streams(self, site: Site) -> list[Stream]:
        """What is published on one server all the time."""
        rate = self.rate
        streams = [
            Stream("steady/single", 0.25 * rate),
            Stream("steady/batched", 0.45 * rate, burst=20),
            Stream("steady/level-1", 0.1 * rate, publisher="pub-1"),
            Stream("steady/blocking", 0.1 * rate, publisher="pub-blocking"),
            *(Stream(topic, 0.05 * rate, has_receipts=True) for topic in CHURN),
            # What slow readers read: a stall must exceed what the system's buffers take.
            Stream(HEAVY, 40, size=32 * 1024, has_receipts=True),
        ]
        if site.drops:
            streams.append(Stream(BULK, 32, burst=8, size=8 * 1024))
        return streams

    def marks(self, site: Site, topic: str, who: str) -> Path:
        """The file for what one reader had of a stream, or for its receipts."""
        return Path(self.folder, f"{site.policy}.{topic.replace('/', '-')}.{who}")


class Marks:
    """A byte for each number of a stream, in a file.

    It is written at once, so it outlives a process that is killed, and it costs a process whose
    memory is watched none.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)

    def set(self, number: int, value: int = 1) -> None:
        os.pwrite(self._file, bytes((value,)), number)

    def close(self) -> None:
        os.close(self._file)


def read_marks(path: Path, count: int) -> npt.NDArray[np.int64]:
    """The bytes of the numbers from 0 to ``count``."""
    marks = np.zeros(count + 1, np.int64)
    if path.exists():
        found = np.fromfile(path, np.uint8)[: count + 1]
        marks[: len(found)] = found
    return marks
