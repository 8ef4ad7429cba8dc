"""Reads and writes messages as JSON: one module for each level of the protocol."""
