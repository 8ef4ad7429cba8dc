"""``examples/editor``: all come to the same text, whatever they do and whenever they hear of it."""

import asyncio
import runpy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kps
from tests.examples.harness import EXAMPLES, PATIENCE, running

Text = runpy.run_path(str(EXAMPLES / "editor" / "editor.py"))["Text"]
AUTHORS = ("ann", "bob", "cid")


class Author:
    """Somebody with a text, edits that have not left, and edits of all that have not come."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = Text()
        self.unsent: list[dict[str, Any]] = []
        self.unread: list[dict[str, Any]] = []

    def write(self, start: int, length: int, new: str) -> dict[str, Any]:
        """Replace ``length`` letters from ``start`` on, as the page does."""
        shown = [one for one in self.text.order if self.text.letters[one]]
        start = min(start, len(shown))
        edit = {
            "remove": [list(one) for one in shown[start : start + length]],
            "insert": new,
            "id": [1 + max((number for number, _ in self.text.order), default=0), self.name],
            "after": list(shown[start - 1]) if start else None,
        }
        before = str(self.text)
        self.text.apply(edit)
        assert str(self.text) == before[:start] + new + before[start + length :]
        self.unsent.append(edit)
        return edit

    def read(self) -> None:
        self.text.apply(self.unread.pop(0))


WHO = st.sampled_from(AUTHORS)
WRITE = st.tuples(
    st.just("write"), WHO, st.integers(0, 12), st.integers(0, 3), st.text("xyz", max_size=4)
)
STEP = st.one_of(WRITE, st.tuples(st.sampled_from(["send", "read", "send again"]), WHO))


@given(st.lists(STEP, max_size=40))
def test_all_come_to_the_same_text(steps: list[tuple[Any, ...]]) -> None:
    program = Text()
    authors = {name: Author(name) for name in AUTHORS}

    def send(author: Author, *, is_lost: bool = False) -> None:
        """The program takes an edit; ``is_lost``: its author does not learn of that."""
        edit = author.unsent[0] if is_lost else author.unsent.pop(0)
        program.check(edit, author.name)
        program.apply(edit)
        for one in authors.values():
            one.unread.append(edit)

    for what, name, *how in steps:
        author = authors[name]
        if what == "write":
            author.write(*how)
        elif what == "read" and author.unread:
            author.read()
        elif what != "read" and author.unsent:
            send(author, is_lost=what == "send again")
    for author in authors.values():
        while author.unsent:
            send(author)
    for author in authors.values():
        while author.unread:
            author.read()
    assert {str(author.text) for author in authors.values()} == {str(program)}


def test_what_two_write_at_one_place_does_not_mix() -> None:
    ann, bob = Author("ann"), Author("bob")
    for edit in [ann.write(0, 0, "tea"), ann.write(3, 0, "!")]:
        bob.text.apply(edit)
    one, other = ann.write(3, 0, " for two"), bob.write(3, 0, " and cake")
    ann.text.apply(other)
    bob.text.apply(one)
    assert str(ann.text) == str(bob.text) == "tea and cake for two!"


def edit_of(**changes: object) -> dict[str, Any]:
    return {"remove": [], "insert": "x", "id": [9, "ann"], "after": [1, "ann"]} | changes


@pytest.mark.parametrize(
    "edit",
    [
        None,
        {},
        edit_of(id=[9, "bob"]),
        edit_of(id=[1, "ann"]),  # not larger than that of the letter before it
        edit_of(id=["9", "ann"]),
        edit_of(after=[7, "ann"]),
        edit_of(after="ann"),
        edit_of(remove=[[7, "ann"]]),
        edit_of(remove=["ann"]),
        edit_of(insert=["x"]),
        edit_of(insert=30_000 * "x"),
    ],
)
def test_an_edit_that_nobody_can_have_made_is_refused(edit: object) -> None:
    text = Text()
    text.apply(edit_of(id=[1, "ann"], after=None))
    text.check(edit_of(), "ann")
    with pytest.raises(ValueError, match=r"this is no|too long"):
        text.check(edit, "ann")


def test_over_the_bus() -> None:
    """Who opens the text gets each edit once: in the text, or behind its place."""

    async def run(address: str) -> None:
        def enter(name: str, secret: str = "") -> kps.Client:
            return kps.Client(address, id=name, token=secret or f"secret-of-{name}")

        async with enter("ann") as ann, enter("bob") as bob:
            await ann.request_to_id("editor", [edit_of(id=[1, "ann"], after=None)])
            opened = await bob.request_to_id("editor", "open")
            assert opened["marks"] == [[1, "ann", "x"]]
            await ann.request_to_id("editor", [edit_of(insert="yz")])
            since = kps.Position(**opened["position"])
            async with bob.subscribe("edits", since=since, timeout=PATIENCE) as edits:
                assert (await anext(edits)).data == edit_of(insert="yz")
            with pytest.raises(kps.RequestFailed, match="no edit"):
                await bob.request_to_id("editor", [edit_of()])
            assert len((await bob.request_to_id("editor", "open"))["marks"]) == 3
            with pytest.raises(kps.ServerError, match="may not"):
                await bob.publish_with_receipt("edits", edit_of(insert="!"))
            with pytest.raises(kps.ServerError, match="belongs to another"):
                async with enter("ann", "another-secret"):
                    pass

    with running("editor", "127.0.0.1:0", "0") as program:
        asyncio.run(run(program.bus("/bus.js")))
        program.interrupt()
