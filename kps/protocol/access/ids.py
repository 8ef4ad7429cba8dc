"""Reserves client ids for identities."""

from hashlib import blake2b

_SIZE = 16


class IdOwners:
    """Remembers which identity owns an id, even while nobody is connected under it.

    It keeps the latest ids of each identity, so that an identity displaces ids of its own only.
    The exception is the limit for all together, without which a million identities would fill
    the memory: past it, the id that was taken longest ago becomes free. It keeps digests of ids
    and names, because these may be long.
    """

    def __init__(self, most: int, most_in_all: int) -> None:
        self._most = most
        self._most_in_all = most_in_all
        self._owner: dict[bytes, bytes] = {}  # by id, the latest last
        self._ids: dict[bytes, bytes] = {}  # by owner: its ids in one piece, the latest last

    def __len__(self) -> int:
        return len(self._owner)

    def may_use(self, client_id: str, name: str) -> bool:
        """Tell whether an id is free or belongs to the identity of that name."""
        owner = self._owner.get(_digest(client_id))
        return owner is None or owner == _digest(name)

    def take(self, client_id: str, name: str) -> None:
        """Give an id that it may use to the identity of that name."""
        if not name:
            return  # anonymous clients own no ids
        taken, owner = _digest(client_id), _digest(name)
        if taken in self._owner:
            owner = self._release(taken)
        ids = self._ids[owner] = self._ids.get(owner, b"") + taken
        self._owner[taken] = owner
        if len(ids) > self._most * _SIZE:
            self._release(ids[:_SIZE])
        if len(self._owner) > self._most_in_all:
            self._release(next(iter(self._owner)))

    def _release(self, taken: bytes) -> bytes:
        """Make an id free; return who owned it."""
        owner = self._owner.pop(taken)
        ids = self._ids[owner]
        start = ids.find(taken)
        while start % _SIZE:  # it lies across two others
            start = ids.find(taken, start + 1)
        ids = ids[:start] + ids[start + _SIZE :]
        if ids:
            self._ids[owner] = ids
        else:
            del self._ids[owner]
        return owner


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_SIZE).digest()
