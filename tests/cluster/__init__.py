"""Servers on several machines that are one: a cluster whose engine is a real NATS server."""
