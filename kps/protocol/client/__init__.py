"""The client: its session across any number of connections."""
