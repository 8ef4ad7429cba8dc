"""Bytes and messages of one connection: frames, closing, the queue of pending messages. No JSON."""
