"""Tests of kps/protocol/server."""
