"""Where the programs of ``examples/`` whose page comes from a port of its own have their bus."""

import re
from urllib.request import urlopen

from tests.examples.harness import PATIENCE


def bus_of(url: str) -> str:
    """Read where a page finds the bus: ``host:port``."""
    with urlopen(f"{url}/bus.js", timeout=PATIENCE) as answer:
        found = re.search("address = '(.*)'", answer.read().decode())
    assert found is not None
    return found[1]
