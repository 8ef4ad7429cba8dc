"""Every message says what happened, where and what to do, or the page about messages does."""

import re
from pathlib import Path

import pytest

from tests.messages import Found, all_texts, in_source, messages

pytestmark = pytest.mark.pure("it reads the sources of the checkout")

PAGE = Path(__file__).parent.parent / "docs" / "messages.md"

SAYS_ALL = [
    # What was given, and what it should be.
    r", (not|unlike) (…|an? …|an empty|one text)",
    r"^(not (an?|the|all) |no page |this is not |an? ).*: …$",
    r"\b(must be|needs?|is one of) ",
    r" is (an? (text|number|whole number|path|list|dictionary|object|function|topic|plain one|key)|"
    r"true or|1 or|not empty|like|what|ASCII|at least|scheme)\b",
    r" (can be|are) written ",
    # The bound that it breaks.
    r"\bha(s|ve) (more|fewer) than … |\b(has|takes) .*at (most|least) … |\bhas up to … |at most … ",
    # What to do about it.
    r"; |: run | exclude each other|\bsend the payload\b",
    r"[:,] (use|await|start|give|iterate|or enter|name|see|such as|as in|write|run|set|unset)\b",
    r"^(it|a path|an? \w+) (begins|ends|starts|has|is|connects|retains) .*[:'/]",
    # A frame around the reason of the system.
    r"^cannot (read|use|listen|write|be written) .*: …| has no option ",
]
"""Forms of a message that says all three. Prefer them to a line on the page."""


def says_all(text: str) -> bool:
    return any(re.search(form, text) for form in SAYS_ALL)


def on_page() -> set[str]:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    return {text for row in rows for text in re.findall("`([^`]+)`", row.split(" | ")[0])}


def test_each_message_is_explained() -> None:
    """Who adds one asks: does it say what happened, where (which option, topic, file), what to do?

    Write it so, or explain it on the page.
    """
    known = on_page()
    unexplained = [one for one in messages() if not says_all(one.text) and one.text not in known]
    assert unexplained == []


def test_the_page_explains_what_there_is() -> None:
    body, _, by_python = PAGE.read_text(encoding="utf-8").partition("## Where Python itself")
    there = {one.text for one in messages()} | all_texts()
    ours = [text for text in on_page() if text not in by_python]
    assert sorted(text for text in ours if text not in there) == []
    assert len(body) > len(by_python)


def test_they_are_found() -> None:
    source = """
NOTE = "a note with words"
def act(it, level):
    raise InvalidArgument(f"{it} is bad, and {it!r} is worse")
    text = "first %(what)s" if it else "second {}"
    text += " part"
    write(logging.WARNING, "event", text, what=1)
    write(logging.INFO, "event", "nothing for a list")
    match it:
        case 1:
            text = "in a case"
            write(logging.ERROR, "event", text)
    transport.close(1008, NOTE)
    raise KPSError(it)
"""
    found = {text for text, _ in in_source(source)}
    assert sorted(found) == [
        "a note with words",
        "first … part",
        "in a case",
        "second … part",
        "… is bad, and … is worse",
    ]
    assert any(one == Found("the client was closed", one.path, one.line) for one in messages())
    assert not says_all("it is bad")
