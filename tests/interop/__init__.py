"""Tests with the programs of the original family."""
