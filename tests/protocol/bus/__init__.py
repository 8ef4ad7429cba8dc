"""Tests of kps/protocol/bus."""
