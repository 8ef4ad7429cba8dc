"""The configuration of a cluster, the same on all of its nodes."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """How the nodes of a cluster know each other, and how long they wait for each other."""

    name: str = "kps"
    """The name of the cluster. Nodes of another one are strangers."""
    secret: bytes = field(default=b"", repr=False)
    """What all nodes know and nobody else does. With it, each chunk between nodes is signed."""
    heartbeat: float = 1.0
    """Seconds of silence after which a node says that it lives."""
    patience: float = 5.0
    """Seconds of silence after which a node is taken for dead."""
    confirm_timeout: float = 1.0
    """Seconds that a client waits at most for other nodes, with a subscription or an id."""
    max_queue: int = 64 * 1024 * 1024
    """Bytes that may wait for one node. One more, and the link begins anew. What a node is told
    when its link comes up does not count."""
    serves_alone: bool = True
    """Whether a node that has lost the engine serves its own clients. If not, it lets them go."""
    max_chunk: int = 256 * 1024
    """Bytes of what a carrier is given at a time, about."""
