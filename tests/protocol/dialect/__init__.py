"""Tests of kps/protocol/dialect."""
