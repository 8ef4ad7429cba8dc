"""Tests of kps/protocol/wire."""
