"""Tests of the public API as its users see it: names, types, options, errors."""
