"""Tests of the whole programs in ``examples/``."""
