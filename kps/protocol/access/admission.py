"""Limits the number of connections from each address, and finds clients behind proxies."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from kps.errors import InvalidArgument
from kps.protocol.server_limits import ServerLimits

Network = IPv4Network | IPv6Network

_MOST_TURNED_AWAY = 64


def read_networks(addresses: Iterable[str]) -> tuple[Network, ...]:
    """Parse addresses, or networks such as ``10.0.0.0/8``. Raises :class:`kps.InvalidArgument`."""
    try:
        return tuple(ip_network(address, strict=False) for address in addresses)
    except ValueError as error:
        raise InvalidArgument(f"not an address or network: {str(error)[:200]}") from None


def host_of(peer: str) -> str:
    """Return the host of ``host:port``, or of a bare address."""
    if peer.startswith("["):
        return peer[1 : peer.find("]")]
    return peer.rpartition(":")[0] if peer.count(":") == 1 else peer


def is_loopback(peer: str) -> bool:
    """Tell whether an address, or ``host:port`` with one, is that of this machine to itself."""
    try:
        return ip_address(_plain(host_of(peer))).is_loopback
    except ValueError:
        return False


class Admission:
    """Counts connections: all of them, and those of each address."""

    def __init__(self, limits: ServerLimits, proxies: tuple[Network, ...]) -> None:
        self._limits = limits
        self._proxies = proxies
        self._admitted = 0
        self._turned_away = 0
        self._by_origin: dict[str, int] = {}

    @property
    def has_proxies(self) -> bool:
        """Whether proxies are known."""
        return bool(self._proxies)

    def admit(self) -> bool:
        """Count a new connection if there is a place for it; tell whether there is."""
        is_admitted = self._admitted < self._limits.max_connections
        self._admitted += is_admitted
        return is_admitted

    def turn_away(self, *, was_admitted: bool) -> bool:
        """Count a connection that gets no place; tell whether it may be told so.

        These take no place of others, so only few of them may wait until they have read that.
        """
        self._admitted -= was_admitted
        self._turned_away += 1
        return self._turned_away <= _MOST_TURNED_AWAY

    def release(self, *, was_admitted: bool) -> None:
        """Count the end of a connection."""
        if was_admitted:
            self._admitted -= 1
        else:
            self._turned_away -= 1

    def is_proxy(self, peer: str) -> bool:
        """Tell whether a peer, or an address, is a known proxy."""
        if not self._proxies:
            return False
        try:
            known = ip_address(_plain(host_of(peer)))
        except ValueError:
            return False
        return any(known in network for network in self._proxies)

    def client_of(self, peer: str, forwarded: str) -> str:
        """Return the client behind a peer, by the peer's ``X-Forwarded-For`` header.

        We trust known proxies only. So this is the last address that is not a known proxy.
        """
        client = peer
        for address in reversed([part.strip() for part in forwarded.split(",") if part.strip()]):
            if not self.is_proxy(client):
                break
            client = address
        return client

    def enter(self, peer: str) -> str | None:
        """Count a connection; return its origin, or ``None`` if that has too many."""
        origin = origin_of(peer)
        taken = self._by_origin.get(origin, 0)
        if taken >= self._limits.max_connections_per_address:
            return None
        self._by_origin[origin] = taken + 1
        return origin

    def leave(self, origin: str) -> None:
        """Count the end of a connection from an origin."""
        left = self._by_origin[origin] - 1
        if left:
            self._by_origin[origin] = left
        else:
            del self._by_origin[origin]


def origin_of(peer: str) -> str:
    """Return what counts as one address: for IPv6 the 64-bit network, as one host may own it."""
    address = _plain(host_of(peer))
    if ":" not in address:
        return address
    try:
        return str(ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


def _plain(address: str) -> str:
    """Return an address; an IPv4-mapped IPv6 address becomes IPv4."""
    if ":" not in address:
        return address
    try:
        mapped = IPv6Address(address.partition("%")[0]).ipv4_mapped
    except ValueError:
        return address
    return address if mapped is None else str(mapped)
