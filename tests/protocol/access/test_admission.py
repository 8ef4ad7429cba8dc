"""How many may connect, and who is behind a proxy."""

import pytest

from kps.errors import InvalidArgument
from kps.protocol.access.admission import Admission, host_of, read_networks
from kps.protocol.server_limits import ServerLimits


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("192.0.2.1:80", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("", ""),
    ],
)
def test_host_of(peer: str, host: str) -> None:
    assert host_of(peer) == host


def test_unreadable_networks() -> None:
    with pytest.raises(InvalidArgument, match="not an address"):
        read_networks(["10.0.0.0/33"])


class TestAddresses:
    def test_at_the_limit_and_past_it(self) -> None:
        admission = Admission(ServerLimits(max_connections_per_address=2), ())
        first, second = admission.enter("192.0.2.1:1"), admission.enter("192.0.2.1:2")
        assert first is not None
        assert first == second
        assert admission.enter("192.0.2.1:3") is None
        assert admission.enter("192.0.2.2:1") is not None
        admission.leave(first)
        assert admission.enter("192.0.2.1:4") is not None
        assert admission.enter("192.0.2.1:5") is None

    def test_of_version_6_a_network_counts(self) -> None:
        admission = Admission(ServerLimits(max_connections_per_address=1), ())
        assert admission.enter("[2001:db8::1]:1") == "2001:db8::/64"
        assert admission.enter("[2001:db8::ffff:1]:1") is None
        assert admission.enter("[2001:db8:0:1::1]:1") is not None

    def test_nothing_is_left(self) -> None:
        admission = Admission(ServerLimits(), ())
        for _ in range(2):
            origin = admission.enter("192.0.2.1:1")
            assert origin is not None
            admission.leave(origin)
        assert not admission._by_origin

    @pytest.mark.parametrize("peer", ["", "memory:0", "[fe80::1%eth0]:1", "x:y:z"])
    def test_any_name_of_a_peer(self, peer: str) -> None:
        assert Admission(ServerLimits(), ()).enter(peer) is not None


class TestProxies:
    PROXY = "10.0.0.1:5000"

    @pytest.mark.parametrize(
        ("forwarded", "client"),
        [
            ("", PROXY),
            ("192.0.2.1", "192.0.2.1"),
            ("203.0.113.9, 192.0.2.1", "192.0.2.1"),  # what stands before it, the client wrote
            ("192.0.2.1, 10.0.0.2", "192.0.2.1"),  # two proxies of ours
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            (" , 2001:db8::1 ,", "2001:db8::1"),
            ("nonsense", "nonsense"),
        ],
    )
    def test_the_last_one_that_is_no_proxy(self, forwarded: str, client: str) -> None:
        admission = Admission(ServerLimits(), read_networks(["10.0.0.0/8"]))
        assert admission.client_of(self.PROXY, forwarded) == client

    def test_who_is_no_proxy_is_not_believed(self) -> None:
        for admission in (
            Admission(ServerLimits(), read_networks(["10.0.0.0/8"])),
            Admission(ServerLimits(), ()),
        ):
            assert admission.client_of("192.0.2.1:1", "203.0.113.9") == "192.0.2.1:1"


@pytest.mark.parametrize("form", ["[::ffff:192.0.2.{}]:1", "[::ffff:c000:02{:02x}]:1"])
def test_addresses_of_version_4_in_the_form_of_version_6(form: str) -> None:
    admission = Admission(ServerLimits(max_connections_per_address=1), read_networks(["192.0.2.3"]))
    assert admission.enter(form.format(1)) == "192.0.2.1"
    assert admission.enter("192.0.2.1:5") is None
    assert admission.enter(form.format(2)) == "192.0.2.2"
    assert admission.client_of(form.format(3), "203.0.113.9") == "203.0.113.9"
