"""Codes with a meaning of our own: of WebSocket closes (spec, 2.8), of errors (spec, 12.6)."""

ID_TAKEN = 4001
"""Another connection registered under this one's id. Coming back would take it in turn."""

EXPIRED = 4002
"""The time for which the server knew this client is over. It may come back with a new token."""

RATE_LIMITED = "rate_limited"
LIMIT_REACHED = "limit_reached"
UNAVAILABLE = "unavailable"

TEMPORARY = frozenset((RATE_LIMITED, LIMIT_REACHED, UNAVAILABLE))
"""Codes of errors for which it can help to ask again later. All others are final."""
