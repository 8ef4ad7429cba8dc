"""What both ends agree on in the opening handshake."""

import pytest

from kps.protocol.wire.extensions import OFFER, Accepted, accept, accepts

BASE = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


class TestServer:
    @pytest.mark.parametrize(
        "offer",
        [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",  # Chrome, Firefox and Safari
            "permessage-deflate;client_max_window_bits=8",
            'permessage-deflate ; client_max_window_bits = "10"',
            "permessage-deflate; server_no_context_takeover",
            "permessage-deflate; client_no_context_takeover;\tserver_no_context_takeover",
            "x-webkit-deflate-frame, permessage-deflate",
            "permessage-bzip2; level=9, , permessage-deflate",
            OFFER,
        ],
    )
    def test_an_offer_is_accepted(self, offer: str) -> None:
        assert accept(offer) == Accepted(BASE, True)

    @pytest.mark.parametrize("bits", range(8, 16))
    def test_a_client_may_ask_for_a_window(self, bits: int) -> None:
        """It gets messages that are not compressed, unless it takes the largest."""
        offer = f"permessage-deflate; server_max_window_bits={bits}"
        assert accept(offer) == Accepted(f"{BASE}; server_max_window_bits={bits}", bits == 15)

    @pytest.mark.parametrize(
        "parameters",
        [
            "server_no_context_takeover=1",
            "client_no_context_takeover=true",
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=08",
            "server_max_window_bits=-9",
            "client_max_window_bits=7",
            "client_max_window_bits=1e1",
            "server_no_context_takeover; server_no_context_takeover",
            "server_max_window_bits=9; server_max_window_bits=9",
            "level=9",
        ],
    )
    def test_an_offer_with_wrong_parameters_is_passed_over(self, parameters: str) -> None:
        """RFC 7692, section 7.1, asks for that."""
        offer = f"permessage-deflate; {parameters}"
        assert accept(offer) is None
        assert accept(f"{offer}, permessage-deflate") == Accepted(BASE, True)

    @pytest.mark.parametrize(
        "offers",
        [
            "",
            ",",
            "deflate",
            "Permessage-Deflate",
            "permessage-deflate;",
            "permessage-deflate; ; server_no_context_takeover",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits='9'",
            'permessage-deflate; server_max_window_bits="9',
            'other; note="a, permessage-deflate, b"',
            "permessage-deflate, ä",
            "perme ssage-deflate",
            "other; " + "x=y; " * 300 + "z, permessage-deflate",
        ],
    )
    def test_anything_else_offers_nothing(self, offers: str) -> None:
        assert accept(offers) is None


class TestClient:
    @pytest.mark.parametrize(
        "answer",
        [
            "permessage-deflate; server_no_context_takeover",
            BASE,
            f"{BASE}; server_max_window_bits=9",
            f'{BASE}; client_max_window_bits="15"',
        ],
    )
    def test_an_answer_accepts_the_offer(self, answer: str) -> None:
        assert accepts(answer)

    @pytest.mark.parametrize(
        "answer",
        [
            "",
            "permessage-deflate",  # it would keep its window
            "permessage-deflate; client_no_context_takeover",
            f"{BASE}; client_max_window_bits",
            f"{BASE}; server_max_window_bits",
            f"{BASE}; server_max_window_bits=7",
            f"{BASE}; server_no_context_takeover",
            f"{BASE}; other",
            f"{BASE}, {BASE}",
            f"{BASE}, other",
            "other",
            f"{BASE};",
        ],
    )
    def test_anything_else_is_a_fault(self, answer: str) -> None:
        assert not accepts(answer)

    def test_what_a_server_answers_is_right(self) -> None:
        accepted = accept(OFFER)
        assert accepted is not None
        assert accepts(accepted.answer)
