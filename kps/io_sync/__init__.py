"""The blocking driver: sockets and threads around the protocol core."""
