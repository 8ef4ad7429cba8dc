"""What tests need of KPS: buses in memory, time that is set by hand, and the vectors' runner.

For a program that uses :class:`kps.Client` or :class:`kps.sync.Client` there is
:class:`MemoryBus`; for the sessions beneath them, without any driver, :class:`Network`::

    network = Network()
    alice, bob = network.client("alice"), network.client("bob")
    mailbox = bob.session.subscribe("news", network.clock.now)
    network.run()
    alice.session.publish("news", "hello", network.clock.now)
    network.run()
    assert mailbox.take().data == "hello"

pytest is not needed; where it is there, it has the fixtures of :mod:`kps.testing.pytest_plugin`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kps.testing.memory_bus import MemoryBus
    from kps.testing.memory_target import MemoryTarget
    from kps.testing.network import Link, ManualClock, MemoryClient, Network, split
    from kps.testing.vectors import (
        Vector,
        VectorFailure,
        VectorTarget,
        load_vectors,
        messages_in,
        run_vector,
    )

__all__ = [
    "Link",
    "ManualClock",
    "MemoryBus",
    "MemoryClient",
    "MemoryTarget",
    "Network",
    "Vector",
    "VectorFailure",
    "VectorTarget",
    "load_vectors",
    "messages_in",
    "run_vector",
    "split",
]

# Loaded on first use: pytest imports this package for the plugin, whatever it is to test.
_MODULES = {
    "kps.testing.memory_bus": ("MemoryBus",),
    "kps.testing.memory_target": ("MemoryTarget",),
    "kps.testing.network": ("Link", "ManualClock", "MemoryClient", "Network", "split"),
}


if not TYPE_CHECKING:  # else a mistyped name would have the type Any

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'kps.testing' has no attribute {name!r}")
        found = [module for module, names in _MODULES.items() if name in names]
        module = importlib.import_module(found[0] if found else "kps.testing.vectors")
        globals()[name] = value = getattr(module, name)
        return value
