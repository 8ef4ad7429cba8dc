"""The page about MQTT names all options and all reasons, and its rules can be read."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

from kps.mqtt.core.rules import InRule, OutRule
from kps.mqtt.core.settings import Settings

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "mqtt.md").read_text(encoding="utf-8")
SOURCES = [path.read_text(encoding="utf-8") for path in (ROOT / "kps" / "mqtt").rglob("*.py")]


def test_the_rules_can_be_read() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    settings = Settings.read(tomllib.loads(text))
    for rule in (*settings.ins, *settings.outs):
        for each in fields(rule):
            assert re.search(rf"^{each.name} = ", text, re.M), each.name
            if each.name not in ("filter", "pattern", "strip", "add"):
                assert getattr(rule, each.name) == each.default, each.name
    assert {type(rule) for rule in (*settings.ins, *settings.outs)} == {InRule, OutRule}


def test_all_options_are_told() -> None:
    for each in fields(Settings):
        if each.name not in ("ins", "outs"):
            assert f"`{each.name}`" in PAGE, each.name


def test_all_reasons_are_told() -> None:
    told = set(re.findall(r"`(\w+)`", PAGE.partition("## Figures")[2]))
    names = set()
    for source in SOURCES:
        names |= set(re.findall(r'(?:Refusal|_choose)\(\s*(?:\w+\.\w+, )?"(\w+)"', source))
        names |= set(re.findall(r'not_passed\[\s*"(\w+)"', source))
    assert {"not_json", "nobody", "failed", "queue_full", "left_to_broker"} <= names
    assert names <= told, names - told
