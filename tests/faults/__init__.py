"""Tests that attack KPS: processes that are killed, networks that fail, peers that mean harm."""
