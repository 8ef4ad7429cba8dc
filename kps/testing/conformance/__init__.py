"""Judges clients and servers of any language by the vectors of the specification.

``judge_server`` holds a server to those of ``spec/vectors``, ``judge_client`` a client to those of
``spec/client-vectors``, by way of a testee (``spec/CLIENTS.md``). The command ``kps conformance``
does both. Nothing here uses the WebSocket of KPS, whose faults would else remain unseen.
"""
