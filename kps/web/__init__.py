"""The web files that a server serves."""
