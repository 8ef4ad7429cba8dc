"""WebSocket close codes with a meaning of our own (spec, section 2)."""

ID_TAKEN = 4001
"""Another connection registered under this one's id. Coming back would take it in turn."""

EXPIRED = 4002
"""The time for which the server knew this client is over. It may come back with a new token."""
