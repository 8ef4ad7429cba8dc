"""Tests of kps/protocol/access."""
