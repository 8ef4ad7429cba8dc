"""Tests of kps/auth."""
