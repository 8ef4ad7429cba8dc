"""The family's spelling of the API."""
