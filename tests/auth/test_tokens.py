"""Identities from a file of tokens."""

import hashlib
import logging
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kps
from kps.auth.tokens import TokenFile, new_token, read_permissions
from kps.cli.token import TokenOptions, make_token
from kps.io_common.toml import parse

if sys.platform != "win32":
    import fcntl
    import resource

ALICE, BOB, NEXT = "alice-0123456789abcdef", "bob-0123456789abcdef-~+/=", "next-0123456789abcdef"

Write = Callable[..., Path]


def digest(token: str) -> str:
    return "sha256:" + hashlib.sha256(token.encode()).hexdigest()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a token file that nobody else may read."""

    def write(content: str | bytes, mode: int = 0o600) -> Path:
        path = tmp_path / "tokens.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path

    return write


# -- what a file says -------------------------------------------------------------------------


def test_identities(write: Write) -> None:
    path = write(
        f"""
        [alice]
        token = "{ALICE}"
        publish = ["chat/*"]
        subscribe = ["chat/**", "news"]
        ids = []
        console = true

        ["bob the builder"]
        tokens = ["{BOB}", "{digest(NEXT)}"]
        """
    )
    who = TokenFile(path)
    assert who(ALICE) == kps.Identity(
        "alice",
        kps.Permissions(publish=["chat/*"], subscribe=["chat/**", "news"], ids=[], console=True),
    )
    bob = kps.Identity("bob the builder")
    assert who(BOB) == bob
    assert who(NEXT) == bob
    assert bob.lifetime is None
    assert TokenFile(str(path))(BOB) == bob


def test_every_permission_can_be_given(write: Write) -> None:
    path = write(
        f"""
        [all]
        token = "{ALICE}"
        publish = ["1"]
        subscribe = ["2"]
        direct = ["3"]
        ids = ["4"]
        relay = ["5:1"]
        peer = true
        console = true
        """
    )
    found = TokenFile(path)(ALICE)
    assert found is not None
    assert found.permissions == kps.Permissions(
        publish=["1"],
        subscribe=["2"],
        direct=["3"],
        ids=["4"],
        relay=["5:1"],
        peer=True,
        console=True,
    )


def test_one_and_several_tokens_of_an_identity(write: Write) -> None:
    """Also one that is there twice, and a digest in capitals."""
    shouted = "sha256:" + digest(NEXT).removeprefix("sha256:").upper()
    who = TokenFile(write(f'[a]\ntoken = "{ALICE}"\ntokens = ["{ALICE}", "{BOB}", "{shouted}"]'))
    assert {identity.name for t in (ALICE, BOB, NEXT) if (identity := who(t))} == {"a"}


def test_what_is_no_token(write: Write) -> None:
    who = TokenFile(write(f'[a]\ntokens = ["{ALICE}", "{digest(BOB)}"]'))
    for token in (
        "",
        ALICE[:-1],
        ALICE + " ",
        ALICE.upper(),
        digest(BOB),  # who has read the file has no token of those that are not in it
        digest(BOB).removeprefix("sha256:"),
        digest(ALICE),
        "a",
        "é" * 20,
        "\ud800",
        "\0",
        "x" * 2_000_000,
    ):
        assert who(token) is None


def test_any_text_is_judged(write: Write) -> None:
    who = TokenFile(write(f'[a]\ntoken = "{ALICE}"'))

    @given(st.text(st.characters(exclude_categories=())))
    def judge(token: str) -> None:
        assert (who(token) is not None) is (token == ALICE)

    judge()


# -- what is wrong with a file ----------------------------------------------------------------

BAD = {
    "not TOML": ("[a\n", "it is not TOML (at line 1, column 3)"),
    "half": (f'[a]\ntoken = "{ALICE}', "it is not TOML (at end of document)"),
    "a secret alone": (f"{ALICE}\n", "it is not TOML (at line 1, column 23)"),
    "not UTF-8": (b'[a]\ntoken = "\xff"', "it is not TOML"),
    "too deep": ("a = " + "[" * 100_000, "it is not TOML"),
    "empty": ("", "there is no identity in it"),
    "no table": (f'token = "{ALICE}"', "there are lines above the first table"),
    "the wrong way round": (f'{ALICE} = "a"', "there are lines above the first table"),
    "no name": (f'[""]\ntoken = "{ALICE}"', "'': an identity needs a name"),
    "no token": ("[a]\n", "'a': it has no token"),
    "no tokens": ("[a]\ntokens = []", "'a': it has no token"),
    "no text": ("[a]\ntoken = 1234567890123456", "'a': token must be a string"),
    "no list": (f'[a]\ntokens = "{ALICE}"', "'a': tokens must be a list of strings"),
    "no texts": ("[a]\ntokens = [1]", "'a': tokens must be a list of strings"),
    "empty token": ('[a]\ntoken = ""', "'a': a token has fewer than 16 characters"),
    "short": ('[a]\ntoken = "123456789012345"', "'a': a token has fewer than 16 characters"),
    "blank": (f'[a]\ntoken = "{ALICE} "', "'a': a token has characters that no HTTP header can"),
    "letters": (f'[a]\ntoken = "{ALICE}é"', "'a': a token has characters that no HTTP header can"),
    "digest": ('[a]\ntoken = "sha256:12"', "'a': sha256: is followed by 64 hexadecimal digits"),
    "unknown": (f'[a]\ntoken = "{ALICE}"\npublsh = []', "'a': there is no field 'publsh'"),
    "nested": (f'[a]\ntoken = "{ALICE}"\n[a.b]\n', "'a': there is no field 'b'"),
    "lines": (f'[a]\ntoken = "{ALICE}"\n"x\\ny" = 1', "'a': there is no field 'x\\ny'"),
    "pattern": (f'[a]\ntoken = "{ALICE}"\npublish = "t"', "'a': publish must be a list of"),
    "patterns": (f'[a]\ntoken = "{ALICE}"\nrelay = [1]', "'a': relay must be a list of"),
    "one star": (
        f'[a]\ntoken = "{ALICE}"\npublish = ["a/*", "*"]',
        "'a': publish: the pattern that allows everything is '**'; '*' stands for any characters "
        "but '/'",
    ),
    "no pattern": (f'[a]\ntoken = "{ALICE}"\nids = [""]', "'a': ids: a pattern is not empty"),
    "pattern table": (f'[a]\ntoken = "{ALICE}"\n[a.ids]\nx = 1', "'a': ids must be a list of"),
    "switch": (f'[a]\ntoken = "{ALICE}"\npeer = 1', "'a': peer must be true or false"),
    "twice": (f'[a]\ntoken = "{ALICE}"\n[b]\ntoken = "{ALICE}"', "'b': it has a token of 'a'"),
    "twice, hidden": (
        f'[a]\ntoken = "{ALICE}"\n[b]\ntoken = "{digest(ALICE)}"',
        "'b': it has a token of 'a'",
    ),
    "key twice": ("[a]\ntokens = []\ntokens = []\n", "it has a name twice (at line 3, column 12)"),
    "table twice": (f'[a]\ntoken = "{ALICE}"\n[a]\n', "it has a name twice (at line 3, column 3)"),
}


@pytest.mark.parametrize(("content", "reason"), BAD.values(), ids=BAD)
def test_a_bad_file_is_refused_and_changes_nothing(
    write: Write, content: str | bytes, reason: str
) -> None:
    path = write(f'[old]\ntoken = "{NEXT}"')
    who = TokenFile(path)
    write(content)
    for attempt in (who.reload, lambda: TokenFile(path)):
        with pytest.raises(kps.ServerStartFailed) as refusal:
            attempt()
        text = str(refusal.value)
        assert text.startswith(f"cannot use the tokens in {path}: {reason}")
        assert "\n" not in text
        assert ALICE not in text
    assert who(ALICE) is None
    assert who(NEXT) == kps.Identity("old")


def test_a_file_that_cannot_be_read(write: Write, tmp_path: Path) -> None:
    path = write(f'[old]\ntoken = "{NEXT}"')
    who = TokenFile(path)
    path.unlink()
    for attempt in (who.reload, lambda: TokenFile(path)):
        with pytest.raises(kps.ServerStartFailed, match=r"cannot read the tokens in .*: no such"):
            attempt()
    assert who(NEXT) == kps.Identity("old")
    with pytest.raises(kps.ServerStartFailed, match="cannot read the tokens"):
        TokenFile(tmp_path)
    with pytest.raises(kps.ServerStartFailed, match=r"cannot read the tokens in .*: embedded null"):
        TokenFile("a\0b")


def test_no_error_shows_a_token(tmp_path: Path) -> None:
    """Wherever a file is cut off, or has a character too many."""
    path = tmp_path / "tokens.toml"
    # In no piece of it a token is the name of a table, which an error does show: behind the last
    # one there is a comma, or what is in front of it could be lost so that it stands in brackets.
    alice = f'[a]\ntoken = "{ALICE}"\npublish = ["x"]\n'
    whole = f'{alice}[b]\ntokens = ["{NEXT}", "{BOB}",]\nids = []\n'

    @given(
        st.integers(0, len(whole)), st.integers(0, 40), st.sampled_from(["", *'"=[]\n\\#x{\x01é'])
    )
    def break_it(position: int, length: int, extra: str) -> None:
        path.write_text(whole[:position] + extra + whole[position + length :], encoding="utf-8")
        path.chmod(0o600)
        shown = ""
        try:
            TokenFile(path)
        except kps.ServerStartFailed as error:
            shown = str(error)
        assert "0123456789" not in shown

    break_it()


def test_reload(write: Write) -> None:
    path = write(f'[a]\ntoken = "{ALICE}"')
    who = TokenFile(path)
    write(f'[a]\ntokens = ["{ALICE}", "{NEXT}"]\nids = ["x"]\n[b]\ntoken = "{BOB}"')
    assert who(BOB) is None  # not before it is told to
    who.reload()
    a = kps.Identity("a", kps.Permissions(ids=["x"]))
    assert (who(ALICE), who(NEXT), who(BOB)) == (a, a, kps.Identity("b"))
    write(f'[a]\ntoken = "{NEXT}"')
    who.reload()
    assert (who(ALICE), who(NEXT), who(BOB)) == (None, kps.Identity("a"), None)


@pytest.mark.skipif(os.name != "posix", reason="the file system has no such modes")
@pytest.mark.parametrize(
    ("token", "mode", "is_warned"),
    [
        (ALICE, 0o600, False),
        (ALICE, 0o400, False),
        (ALICE, 0o640, False),
        (ALICE, 0o604, True),
        (digest(ALICE), 0o644, False),
    ],
)
def test_a_warning_when_others_may_read_tokens(
    write: Write, caplog: pytest.LogCaptureFixture, token: str, mode: int, is_warned: bool
) -> None:
    path = write(f'[a]\ntoken = "{token}"', mode)
    caplog.set_level(logging.DEBUG)
    TokenFile(path)
    warnings = [f"all users may read the tokens in {path}: run chmod o= on it"] if is_warned else []
    assert [record.getMessage() for record in caplog.records] == warnings


# -- permissions ------------------------------------------------------------------------------


def test_permissions_stand_on_a_default() -> None:
    default = kps.Permissions(publish=["a"], console=True)
    assert read_permissions({}, default) == default
    read = read_permissions({"subscribe": ["b"], "console": False}, default)
    assert read == kps.Permissions(publish=["a"], subscribe=["b"])


@given(
    st.dictionaries(
        st.sampled_from(["publish", "ids", "peer", "console", "__class__", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=3), inner, max_size=2)
            ),
            max_leaves=4,
        ),
    )
)
def test_permissions_are_read_or_refused(table: dict[str, object]) -> None:
    try:
        permissions = read_permissions(table, kps.Permissions())
    except kps.InvalidArgument:
        return
    for name, value in table.items():
        kept = getattr(permissions, name)
        assert (list(kept) if isinstance(kept, tuple) else kept) == value


# -- kps token --------------------------------------------------------------------------------


def test_the_command_makes_a_token(
    capsys: pytest.CaptureFixture[str], write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert make_token(TokenOptions(name="alice")) == 0
    lines, told = capsys.readouterr()
    start, _, token = told.strip().rpartition(": ")
    assert start == "the token, shown only now"
    assert len(token) >= 43
    assert token not in lines  # so that the output can go into a file
    identity = TokenFile(write(lines, 0o644))(token)
    assert identity == kps.Identity("alice")
    restricted = TokenFile(write(lines.replace("# ids", "ids"), 0o644))(token)
    assert restricted == kps.Identity("alice", kps.Permissions(ids=["alice", "alice/*"]))
    assert make_token(TokenOptions(name="alice")) == 0
    assert token not in capsys.readouterr().err
    assert not caplog.records


def test_a_file_with_a_byte_order_mark(write: Write) -> None:
    path = write(b'\xef\xbb\xbf[alice]\r\ntoken = "%s"\r\n' % ALICE.encode())
    assert TokenFile(path)(ALICE) == kps.Identity("alice")


def test_the_command_adds_it_to_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A script gets the token alone; what is in the file stays."""
    path = tmp_path / "tokens.toml"
    tokens = {}
    for name in ("alice", "bob"):
        assert make_token(TokenOptions(name=name, add=str(path))) == 0
        tokens[name] = capsys.readouterr().out.removesuffix("\n")
        path.write_text(path.read_text().rstrip("\n"))  # as editors leave files
    assert path.stat().st_mode & 0o777 == 0o600
    judge = TokenFile(path)
    assert {name: judge(token) for name, token in tokens.items()} == {
        name: kps.Identity(name) for name in tokens
    }
    before = path.read_text()
    with pytest.raises(kps.InvalidArgument, match="has 'bob' already"):
        make_token(TokenOptions(name="bob", add=str(path)))
    assert path.read_text() == before
    for content in (b"[alice", b"\xff"):
        path.write_bytes(content)
        with pytest.raises(kps.InvalidArgument, match=r"it is not TOML$"):
            make_token(TokenOptions(name="carol", add=str(path)))
    with pytest.raises(kps.InvalidArgument, match="cannot write"):
        make_token(TokenOptions(name="alice", add=str(tmp_path)))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"a = " + b"9" * 5000, b"a = " + b"[" * 100_000])
def test_the_command_refuses_what_nobody_can_read(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.write_bytes(content)
    with pytest.raises(kps.InvalidArgument, match=r"it is not TOML$"):
        make_token(TokenOptions(name="carol", add=str(path)))
    assert path.read_bytes() == content


@pytest.mark.skipif(os.name != "posix", reason="there is no /dev")
def test_the_command_refuses_a_file_that_keeps_nothing(tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    os.mkfifo(queue)
    for path in (queue, Path(os.devnull)):
        with pytest.raises(kps.InvalidArgument, match="keeps anything"):
            make_token(TokenOptions(name="alice", add=str(path)))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no flock")
def test_nobody_else_adds_to_the_file_meanwhile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Or two commands would find that a name is free, and make a file with two tables of it."""
    path = tmp_path / "tokens.toml"
    locked = []

    def look(content: bytes) -> dict[str, Any]:
        with path.open("rb") as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                locked.append(content)
        return parse(content)

    monkeypatch.setattr("kps.cli.token.parse", look)
    assert make_token(TokenOptions(name="alice", add=str(path))) == 0
    assert locked == [b""]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
def test_a_disk_that_is_full_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(f'[bob]\ntoken = "{BOB}"\n')
    before = path.read_bytes()

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing fails
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, len(before) + 20))

    done = subprocess.run(
        [sys.executable, "-m", "kps", "token", "alice", "--add", str(path)],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"kps token: cannot write {path}: file too large")
    assert path.read_bytes() == before


@given(st.text(st.characters(exclude_categories=()), min_size=1))
def test_a_name_becomes_a_table_or_is_refused(name: str) -> None:
    try:
        _, lines = new_token(name)
    except kps.InvalidArgument:
        assert not name.isprintable() or "*" in name
    else:
        assert list(tomllib.loads(lines)) == [name]
        head, _, ids = lines.rpartition("\n# ids = ")
        [(key, table)] = tomllib.loads(f"{head}\nids = {ids}").items()
        assert key == name
        assert table["ids"] == [name, f"{name}/*"]
        kps.Permissions(ids=table["ids"])


@pytest.mark.parametrize("name", ["", "a*", "**"])
def test_an_identity_needs_a_name_that_stands_for_nobody_else(name: str) -> None:
    with pytest.raises(kps.InvalidArgument, match="not a name for an identity"):
        new_token(name)


# -- the package ------------------------------------------------------------------------------


def test_a_client_does_not_load_what_only_servers_need() -> None:
    code = (
        "import sys, kps, kps.sync\n"
        "kps.sync.Client, kps.Client, kps.Identity, kps.Permissions, kps.RatePolicy\n"
        "print(*sorted({'jwt', 'tomllib', 'kps.auth.tokens', 'kps.auth.jwt'} & set(sys.modules)))\n"
        "kps.TokenFile, kps.JWTVerifier\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == []


def test_the_public_names_are_there() -> None:
    for name in ("JWTVerifier", "TokenFile"):
        assert getattr(kps, name).__name__ == name
