"""Tests of kps/protocol/client."""
