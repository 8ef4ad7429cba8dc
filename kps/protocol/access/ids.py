"""Reserves client ids for identities."""


class IdOwners:
    """Remembers which identity owns an id, even while nobody is connected under it.

    It keeps the latest ids of each identity, so that no identity can displace the ids of
    others. It also limits the ids of all together, so that a million identities do not fill
    the memory.
    """

    def __init__(self, most: int, most_in_all: int) -> None:
        self._most = most
        self._most_in_all = most_in_all
        self._owner: dict[str, str] = {}  # the latest last
        self._ids: dict[str, dict[str, None]] = {}  # by owner, the latest last

    def may_use(self, client_id: str, name: str) -> bool:
        """Tell whether an id is free or belongs to the identity of that name."""
        return self._owner.get(client_id, name) == name

    def take(self, client_id: str, name: str) -> None:
        """Give an id that it may use to the identity of that name."""
        if not name:
            return  # anonymous clients own no ids
        ids = self._ids.setdefault(name, {})
        ids.pop(client_id, None)
        ids[client_id] = None
        self._owner.pop(client_id, None)
        self._owner[client_id] = name
        if len(ids) > self._most:
            self._release(next(iter(ids)))
        if len(self._owner) > self._most_in_all:
            self._release(next(iter(self._owner)))

    def _release(self, client_id: str) -> None:
        name = self._owner.pop(client_id)
        ids = self._ids[name]
        del ids[client_id]
        if not ids:
            del self._ids[name]
