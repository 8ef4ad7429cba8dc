"""The process of an attacker: ``attacker.py NAME TARGET``, started by ``attacks.py``.

It says when it is prepared, attacks after a line of input, and says what it did. It keeps its
connections until the next line.
"""

import json
import resource
import signal
import sys
from itertools import chain

from hostile import floods, memory, places, rates, standstill
from hostile.raw import Crowd, Target, tell

ATTACKS = {
    attack.name: attack
    for attack in chain(
        *(module.ATTACKS for module in (standstill, floods, places, memory, rates)),
    )
}
PREPARING = 120
"""Seconds for preparing, and for being left alone in the end."""


def main() -> None:
    attack, target = ATTACKS[sys.argv[1]], Target(**json.loads(sys.argv[2]))
    signal.alarm(int(2 * PREPARING + target.seconds))  # it ends in any case
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    crowd = Crowd(target)
    attack.run(crowd)
    tell(**crowd.report())
    sys.stdin.readline()


if __name__ == "__main__":
    main()
