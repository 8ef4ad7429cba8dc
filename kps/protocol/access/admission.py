"""Who may connect at all: how many connections there are, in all and from each address."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from kps.errors import InvalidArgument
from kps.protocol.limits import ServerLimits

Network = IPv4Network | IPv6Network


def read_networks(addresses: Iterable[str]) -> tuple[Network, ...]:
    """Read addresses, or networks such as ``10.0.0.0/8``. Raises :class:`kps.InvalidArgument`."""
    try:
        return tuple(ip_network(address, strict=False) for address in addresses)
    except ValueError as error:
        raise InvalidArgument(f"not an address or network: {error}") from None


def host_of(peer: str) -> str:
    """The address in ``host:port``, or in a bare address."""
    if peer.startswith("["):
        return peer[1 : peer.find("]")]
    return peer.rpartition(":")[0] if peer.count(":") == 1 else peer


class Admission:
    """Counts connections. An address holds its place until it is released."""

    def __init__(self, limits: ServerLimits, proxies: tuple[Network, ...]) -> None:
        self._limits = limits
        self._proxies = proxies
        self._by_origin: dict[str, int] = {}

    def is_proxy(self, address: str) -> bool:
        """Whether connections from there are those of a proxy, which says whose they are."""
        if not self._proxies:
            return False
        try:
            known = ip_address(_plain(address))
        except ValueError:
            return False
        return any(known in network for network in self._proxies)

    def client_of(self, peer: str, forwarded: str) -> str:
        """Who is behind a peer, by the ``X-Forwarded-For`` that came from there.

        Only what a known proxy wrote is believed: the last address that is not its own.
        """
        client = peer
        for address in reversed([part.strip() for part in forwarded.split(",") if part.strip()]):
            if not self.is_proxy(host_of(client)):
                break
            client = address
        return client

    def enter(self, peer: str) -> str | None:
        """Take a place for a connection; return whose it is, or ``None`` if there is none."""
        origin = _origin(host_of(peer))
        taken = self._by_origin.get(origin, 0)
        if taken >= self._limits.max_connections_per_address:
            return None
        self._by_origin[origin] = taken + 1
        return origin

    def leave(self, origin: str) -> None:
        """Give a place back."""
        left = self._by_origin[origin] - 1
        if left:
            self._by_origin[origin] = left
        else:
            del self._by_origin[origin]


def _origin(address: str) -> str:
    """What counts as one address: of version 6 a network of 64 bits, which one host may have."""
    address = _plain(address)
    if ":" not in address:
        return address
    try:
        return str(ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


def _plain(address: str) -> str:
    """An address of version 4 that is written as one of version 6, as what it is."""
    if ":" not in address:
        return address
    try:
        mapped = IPv6Address(address.partition("%")[0]).ipv4_mapped
    except ValueError:
        return address
    return address if mapped is None else str(mapped)
