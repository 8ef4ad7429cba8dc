"""The client: its session, which spans any number of connections."""
