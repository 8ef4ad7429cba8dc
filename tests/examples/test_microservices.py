"""``examples/microservices``: refusals, failures, and a worker that dies at its work."""

import asyncio
import importlib
import os
import re
from html import escape
from pathlib import Path
from types import ModuleType

import pytest

import kps
from tests.examples.harness import EXAMPLES, running

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "example-microservices.svg"
COLOURS = {"shop": "#8a4b08", "stock": "#1b7a43", "orders": "#2456c4", "mail": "#7a2fb0"}


def drawn(lines: list[str]) -> str:
    """What a terminal shows, as SVG: who says something has a colour."""
    height = 24 * len(lines) + 40
    rows = [
        f'<text x="24" y="{38 + 24 * number}" xml:space="preserve" fill="'
        f'{COLOURS.get(re.split("[ -]", line)[0], "#1d2733")}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 {height}" width="1000" '
            f'height="{height}" role="img" font-family="ui-monospace, monospace" font-size="15">',
            "<title>A run of the shop, in a terminal</title>",
            f'<rect x="0.5" y="0.5" width="999" height="{height - 1}" rx="10" fill="#ffffff" '
            'stroke="#dde3e9"/>',
            *rows,
            "</svg>",
            "",
        ]
    )


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES / "microservices")
    return importlib.import_module("microservices")


def test_orders_are_served_refused_and_mailed_although_a_worker_dies() -> None:
    with running("microservices", "127.0.0.1:0") as program:
        assert program.first_line == "6 orders go to orders, stock, mail-1, mail-2, mail-3\n"
        said = program.finish().splitlines()
    by_order: dict[int, list[str]] = {}
    for line in said:
        found = re.fullmatch(r"([\w-]+) +order (\d): (.*)", line)
        assert found, line
        by_order.setdefault(int(found[2]), []).append(f"{found[1]}: {found[3]}")
    assert by_order[4] == ["shop: 2 coffee for dot", "shop: refused: sold out, 1 left"]
    assert by_order[5] == ["shop: 1 cake for eve", "shop: refused: unknown item, 0 left"]
    for number, customer, left in ((1, "ann", 4), (2, "bob", 1), (3, "cid", 1), (6, "fay", 0)):
        lines = by_order[number]
        assert lines[1].startswith("stock: ")
        assert lines[1].endswith(f" reserved, {left} left")
        (mail,) = (line for line in lines if line.endswith(f"mail to {customer} sent"))
        sender = mail.partition(":")[0]
        (receipt,) = (line for line in lines if line.startswith("orders: receipt of the mail: "))
        assert receipt.endswith(f"handled by {sender}")
        died = re.findall(r"(mail-\d): disconnected", receipt)
        assert len(died) == (number == 3)
        assert sender not in died
    if os.environ.get("KPS_PICTURES") == "1":
        command = "$ python examples/microservices/microservices.py"
        PICTURE.write_text(drawn([command, program.first_line.rstrip(), *said]), encoding="utf-8")


def test_ctrl_c_ends_it() -> None:
    with running("microservices", "127.0.0.1:0") as program:
        program.interrupt()


def test_a_service_that_is_away_is_a_failure_and_no_refusal(shop: ModuleType) -> None:
    async def run() -> None:
        async with kps.Server("127.0.0.1:0", auth=shop.by_token) as server:
            order = shop.ORDERS[0]
            with pytest.raises(kps.NobodyThere):
                await shop.place(server, order)
            token = shop.TOKENS["orders"]
            async with kps.Client(server.address, id="orders", token=token) as client:
                await shop.SERVICES["orders"](client)
                with pytest.raises(kps.RequestFailed, match="nobody takes requests to 'stock/"):
                    await shop.place(server, order)

    asyncio.run(run())


def test_each_service_may_do_its_own_only(shop: ModuleType) -> None:
    async def run() -> None:
        async with kps.Server("127.0.0.1:0", auth=shop.by_token) as server:
            token = shop.TOKENS["mail-1"]
            async with kps.Client(server.address, id="mail-1", token=token) as mailer:
                await mailer.subscribe("mail/send", print, group="mailers")
                for topic in ("orders/place", "stock/reserve", "mailed"):
                    with pytest.raises(kps.ServerError, match="may not"):
                        await mailer.publish_with_receipt(topic, {})
                    with pytest.raises(kps.ServerError, match="may not"):
                        await mailer.subscribe(topic, print)
            with pytest.raises(kps.ServerError, match="may not use this id"):
                await kps.Client.connect(server.address, id="stock", token=token)

    asyncio.run(run())
