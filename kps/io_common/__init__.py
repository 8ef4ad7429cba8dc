"""Shared by both drivers: options, logs, TLS, listening sockets, system errors in words."""
