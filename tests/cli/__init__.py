"""Tests of kps/cli."""
