"""Tests that attack KPS: processes that are killed, networks that fail, peers that mean harm."""

EARLY = 0.2
"""Seconds by which a busy event loop may take the time for later than it is: it looks at the
clock once a turn."""
