"""The commands ``kps`` and ``kps-test``."""
