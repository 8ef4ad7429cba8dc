"""Several ways to identify clients at once."""

from pathlib import Path
from typing import Any

import pytest

import kps

jwt = pytest.importorskip("jwt", reason="PyJWT is not installed")

DEVICE, OTHER = "device-0123456789abcdef", "other-0123456789abcdef"
SECRET = b"a secret of at least thirty-two bytes"
NEW_SECRET = b"another secret, just as long as that"
LATER = kps.HttpResponse.text(503, "later")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    tokens, key = tmp_path / "tokens.toml", tmp_path / "secret.key"
    tokens.touch(0o600)
    write(tokens, DEVICE)
    key.write_bytes(SECRET)
    return tokens, key


def write(file: Path, token: str) -> None:
    file.write_text(f'[device]\ntoken = "{token}"\n')


def user_token(secret: bytes = SECRET) -> str:
    return str(jwt.encode({"sub": "user", "exp": 9_999_999_999}, secret, "HS256"))


def name_of(verdict: Any) -> str | None:
    return verdict.name if isinstance(verdict, kps.Identity) else None


def test_devices_with_tokens_and_users_with_jwt(files: tuple[Path, Path]) -> None:
    auth = kps.FirstOf(kps.TokenFile(files[0]), kps.JWTVerifier.from_file(files[1]))
    assert name_of(auth(DEVICE)) == "device"
    assert name_of(auth(user_token())) == "user"
    for bad in ("", "x", OTHER, user_token(NEW_SECRET)):
        assert auth(bad) is None


def test_all_are_reloaded_or_none(files: tuple[Path, Path]) -> None:
    tokens, key = files
    auth = kps.FirstOf(kps.TokenFile(tokens), kps.JWTVerifier.from_file(key))
    write(tokens, OTHER)
    key.write_bytes(b"short")
    with pytest.raises(kps.ServerStartFailed, match="cannot use the key"):
        auth.reload()
    assert name_of(auth(DEVICE)) == "device"
    assert auth(OTHER) is None
    assert name_of(auth(user_token())) == "user"
    key.write_bytes(NEW_SECRET)
    kps.FirstOf(auth).reload()
    assert auth(DEVICE) is None
    assert name_of(auth(OTHER)) == "device"
    assert name_of(auth(user_token(NEW_SECRET))) == "user"


def test_the_first_that_knows_the_token_decides() -> None:
    asked: list[str] = []

    def hook(name: str, verdict: Any) -> Any:
        def judge(token: str) -> Any:
            asked.append(name)
            return verdict

        return judge

    a, b = kps.Identity("a"), kps.Identity("b")
    for verdicts, expected, who in (
        ([a, b], a, "0"),
        ([None, b], b, "01"),
        ([LATER, b], b, "01"),
        ([LATER, None], LATER, "01"),
        ([None, LATER], LATER, "01"),
        ([None, None], None, "01"),
        ([False, None], None, "01"),
    ):
        asked.clear()
        auth = kps.FirstOf(*(hook(str(n), verdict) for n, verdict in enumerate(verdicts)))
        assert auth("x") == expected
        assert "".join(asked) == who


def test_what_cannot_be_a_hook() -> None:
    async def later(token: str) -> None:
        pass

    class Later:
        async def __call__(self, token: str) -> None:
            pass

    hooks: Any
    for hooks in ((), (later,), (Later(),), ("secret",), (None,)):
        with pytest.raises(kps.InvalidArgument):
            kps.FirstOf(*hooks)


def test_hooks_of_its_own_are_reloaded_too() -> None:
    class Hook:
        reloaded = 0

        def __call__(self, token: str) -> None:
            return None

        def reload(self) -> None:
            self.reloaded += 1

    hook = Hook()
    kps.FirstOf(hook, lambda token: None).reload()
    assert hook.reloaded == 1
