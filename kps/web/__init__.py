"""The files that a server serves besides the bus."""
