"""A publisher in five lines, for a script: ``python examples/publish.py [address]``."""

import sys

import kps.sync

with kps.sync.Client(*sys.argv[1:]) as client:
    client.publish("news", {"title": "hello"})
