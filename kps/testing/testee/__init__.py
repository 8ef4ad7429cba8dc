"""The testees of KPS's own Python clients: ``python -m kps.testing.testee [--blocking]``."""
