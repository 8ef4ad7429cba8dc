"""Bytes and messages of one connection: frames, closing, the queue of what waits. No JSON."""
