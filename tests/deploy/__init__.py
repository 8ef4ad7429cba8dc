"""The files of ``examples/deploy``."""
