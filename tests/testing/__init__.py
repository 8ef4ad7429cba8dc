"""Tests of kps/testing."""
