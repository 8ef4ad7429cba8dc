"""Tests of kps/compat."""
