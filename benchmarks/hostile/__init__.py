"""Attacks on a server, with raw sockets and a framing of their own: one module for each family."""
