"""What commands read, by their tables: the command line, variables and a file. No processes."""

import contextlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kps
from kps.cli import readers
from kps.cli.commands import prepare
from kps.cli.declaring import (
    Command,
    Kind,
    Option,
    argument,
    arguments,
    option,
    optional,
    rest,
    several,
    switch,
)
from kps.cli.line import Mistake, UnknownOption, split
from kps.cli.manual import manual, overview
from kps.cli.misspelt import OF_CLIENTS, WORKER, explain, stray, unknown_variables
from kps.cli.registry import COMMANDS, every, find, load
from kps.cli.serve import COMMAND as SERVE
from kps.cli.sources import Settled
from kps.cli.subscribe import COMMAND as SUB
from kps.cli.toml_file import TomlFile
from kps.io_common.handing import VARIABLE
from kps.protocol.dialect.address import DEFAULT_ADDRESS

PAGE = Path(__file__).parent.parent.parent / "docs" / "command-line.md"


@dataclass(frozen=True, kw_only=True)
class Options:
    """One of each kind."""

    first: str = argument("FIRST", "", read=readers.name)
    second: str | None = optional("SECOND", "", read=readers.text)
    size: int = option("N", "", read=readers.size, default=5)
    names: Sequence[str] = several("NAME", "", read=readers.name)
    loud: bool = switch("")
    words: Sequence[str] = rest("WORD ...", "")


COMMAND = Command("kps try", Options, lambda options: 0)


def read(*words: str) -> Options:
    options: Options = Settled.read(COMMAND, words, {}).options()
    return options


class TestLine:
    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["a"], Options(first="a")),
            (["a", "b"], Options(first="a", second="b")),
            (["a", "--size", "7", "b"], Options(first="a", second="b", size=7)),
            (["--size=7", "a"], Options(first="a", size=7)),
            (["--size=7", "--size", "8", "a"], Options(first="a", size=8)),
            (["--loud", "a"], Options(first="a", loud=True)),
            (["--names=x=y", "a", "--names", "-"], Options(first="a", names=("x=y", "-"))),
            (["-", "-1.5e3"], Options(first="-", second="-1.5e3")),
            (["a", "--names=--loud"], Options(first="a", names=("--loud",))),
            (["a", "--names", "-x"], Options(first="a", names=("-x",))),
            (["a", "--", "--loud", "--", "-h"], Options(first="a", words=("--loud", "--", "-h"))),
        ],
    )
    def test_read(self, words: list[str], expected: Options) -> None:
        assert read(*words) == expected

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            ([], "the following arguments are required: FIRST"),
            (["a", "b", "c", "d"], "there are too many arguments: 'c' 'd'; WORD stands behind --"),
            (["a", "--size"], "argument --size: expected one argument"),
            (["a", "--size", "--loud"], "argument --size: expected one argument"),
            (["a", "--size", "--", "b"], "argument --size: expected one argument"),
            (["a", "--loud=1"], "argument --loud: takes no value"),
            (["a", "--size", "x"], "argument --size: must be a whole number from 1 to "),
            (["", "--size", "5"], "argument FIRST: must be a name that is not empty"),
            (["a", "-x"], "there is no option -x"),
            (["a", "--siz", "5"], "there is no option --siz"),
        ],
    )
    def test_mistakes(self, words: list[str], reason: str) -> None:
        with pytest.raises(Mistake) as raised:
            read(*words)
        assert str(raised.value).startswith(reason)

    def test_what_follows_two_dashes_has_its_places_if_nothing_takes_the_rest(self) -> None:
        @dataclass(frozen=True, kw_only=True)
        class Plain:
            several: Sequence[str] = arguments("ONE", "")

        plain = Command("kps plain", Plain, lambda options: 0)
        assert split(plain.options, ["a", "--", "--b"]) == {"several": ["a", "--b"]}

    @pytest.mark.parametrize(
        ("command", "word", "meant"),
        [
            ("serve", "8080", "; did you mean --port 8080?"),
            ("serve", "0.0.0.0:8080", "; did you mean --address 0.0.0.0:8080?"),
            ("top", "wss://bus.example", "; did you mean --address wss://bus.example?"),
            ("config check", "server.toml", "; did you mean --config server.toml?"),
            ("rtt", "news", ""),
            ("bridge mqtt", "sensors/#", ""),
        ],
    )
    def test_a_word_that_is_too_many(self, command: str, word: str, meant: str) -> None:
        with pytest.raises(Mistake) as raised:
            split(load(command).options, [word])
        assert str(raised.value) == f"there are too many arguments: {word!r}{meant}"

    @given(st.lists(st.text(max_size=5), max_size=5))
    def test_any_line_is_read_or_refused(self, words: list[str]) -> None:
        with contextlib.suppress(Mistake):
            assert read(*words).first


class TestSources:
    def settle(
        self, *words: str, file: str | None = None, path: Path, **environment: str
    ) -> Settled:
        if file is not None:
            config = path / "kps.toml"
            config.write_text(file)
            words = (*words, "--config", str(config))
        return Settled.read(SERVE, words, environment)

    def test_the_stronger_source_counts(self, tmp_path: Path) -> None:
        file = "path = '/file'\nid = 'file'\nmax-topic = 7\n"
        settled = self.settle(
            "--path", "/line", file=file, path=tmp_path, KPS_PATH="/variable", KPS_ID="variable"
        )
        options = settled.options()
        assert (options.path, options.id, options.limits.max_topic) == ("/line", "variable", 7)
        assert settled.values["path"].origin == "argument --path"
        assert settled.values["id"].origin == "the variable KPS_ID"
        assert settled.values["max_topic"].origin == f"{tmp_path}/kps.toml, line 3"

    def test_rules_for_history_of_the_command_line_come_first(self, tmp_path: Path) -> None:
        file = "[[history]]\ntopics = 'f'\n[[history]]\ntopics = 'g'\n"

        def rules(*words: str, **environment: str) -> list[str | kps.Pattern]:
            settled = self.settle(*words, file=file, path=tmp_path, **environment)
            return [rule.topics for rule in settled.options().history]

        line = ("--history", "a=1", "--history", "b=2")
        assert rules() == ["f", "g"]
        assert rules(*line) == ["a", "b", "f", "g"]
        assert rules(KPS_HISTORY="c=3,4,d=5") == ["c", "d"]
        assert rules(*line, KPS_HISTORY="c=3,4,d=5") == ["a", "b", "c", "d"]

    def test_lists_of_others_do_not_add_up(self, tmp_path: Path) -> None:
        settled = self.settle(file="origin = ['http://f', 'http://g']", path=tmp_path)
        assert settled.options().origin == ("http://f", "http://g")
        settled = self.settle(file="origin = ['http://f']", path=tmp_path, KPS_ORIGIN="http://a")
        assert settled.options().origin == ("http://a",)

    @pytest.mark.parametrize(
        ("words", "environment", "file", "address"),
        [
            (["--port", "80"], {}, None, "localhost:80"),
            (["--port", "80", "--address", "h"], {}, None, "h:80"),
            (["--port", "80", "--address", "[::1]"], {}, None, "[::1]:80"),
            (["--port", "80"], {"KPS_ADDRESS": "0.0.0.0:9313"}, None, "0.0.0.0:80"),
            ([], {}, "port = 80\naddress = 'h'", "h:80"),
            ([], {"KPS_ADDRESS": "h:1"}, "port = 80", "h:1"),
            (["--address", "h"], {}, "port = 80", "h"),
            (["--port", "80"], {}, "port = 81\naddress = 'h:1'", "h:80"),
            ([], {"KPS_PORT": "tcp://10.0.0.1:9313"}, None, DEFAULT_ADDRESS),
        ],
    )
    def test_a_port(
        self,
        words: list[str],
        environment: dict[str, str],
        file: str | None,
        address: str,
        tmp_path: Path,
    ) -> None:
        """It counts with an address of its own source, or of a weaker one."""
        settled = self.settle(*words, file=file, path=tmp_path, **environment)
        assert settled.options().address == address

    def test_a_port_beside_one_in_the_address(self, tmp_path: Path) -> None:
        settled = self.settle("--port", "80", "--address", "h:1", path=tmp_path)
        assert settled.faults == ["argument --port: the address 'h:1' has a port already"]
        for url, other in (("wss://h:1/p?q", "wss://h:2/p?q"), ("ws://[::1]/p", "ws://[::1]:2/p")):
            settled = Settled.read(SUB, ["--port", "2"], {"KPS_ADDRESS": url})
            assert settled.options().address == other

    def test_an_empty_variable(self, tmp_path: Path) -> None:
        """It is as none for a client; for a server it must not mean that there are no tokens."""
        settled = Settled.read(SUB, [], {"KPS_TOKEN": "", "KPS_ADDRESS": ""})
        assert (settled.options().token, settled.options().address) == (None, DEFAULT_ADDRESS)
        settled = self.settle(path=tmp_path, KPS_TOKENS="")
        assert settled.faults == ["the variable KPS_TOKENS: must be the name of a file"]

    def test_all_faults_are_found_at_once(self, tmp_path: Path) -> None:
        file = "# a comment\nmax_message = 0\n\npath = [\n 1,\n]\n[[history]]\ntopics = 'a'\n"
        file += "[[history]]\nsize = 3\n[[colour]]\n"
        settled = self.settle("--workers", "x", file=file, path=tmp_path, KPS_THREADS="maybe")
        config = tmp_path / "kps.toml"
        assert [fault.partition(" from 1 to")[0] for fault in settled.faults] == [
            "argument --workers: must be a whole number",
            "the variable KPS_THREADS: takes true or false (1 or 0)",
            f"{config}, line 2: max_message: must be a whole number",
            f"{config}, line 4: path: takes one value, and not [1]",
            f"{config}, line 9: history: it needs topics, a pattern",
            f"{config}, line 11: there is no option colour",
        ]

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"a = ", r": invalid value (at end of document)"),
            (b"\na = 1\na = 2\n", ": cannot overwrite a value (at line 3, column 6)"),
            (b"# \xff\n", ": it is not UTF-8 (at line 1)"),
            (b"# \xc3\xa9\n\n# \xe9\n", ": it is not UTF-8 (at line 3)"),
            (b"a = " + b"9" * 5000, ": a number has thousands of digits"),
            (b"a = " + b"[" * 100_000, ": its values are nested too deeply"),
        ],
    )
    def test_a_file_that_cannot_be_read(self, content: bytes, reason: str, tmp_path: Path) -> None:
        config = tmp_path / "kps.toml"
        config.write_bytes(content)
        settled = Settled.read(SERVE, ["--config", str(config)], {})
        assert len(settled.faults) == 1
        assert settled.faults[0].startswith(f"cannot read {config}: ")
        assert settled.faults[0].endswith(reason.removeprefix(": "))

    def test_a_file_with_a_byte_order_mark_and_the_ends_of_lines_of_windows(
        self, tmp_path: Path
    ) -> None:
        config = tmp_path / "kps.toml"
        config.write_bytes(b"\xef\xbb\xbfpath = '/p'\r\nid = 'me'\r\n")
        settled = Settled.read(SERVE, ["--config", str(config)], {})
        assert (settled.options().path, settled.options().id) == ("/p", "me")
        assert settled.values["id"].origin == f"{config}, line 2"

    @pytest.mark.parametrize("value", ["1234567890", "['1234567890']", "{a = '1234567890'}"])
    def test_no_fault_shows_what_is_secret(self, value: str, tmp_path: Path) -> None:
        secrets = [each.name for each in SERVE.options if each.is_secret]
        file = "".join(f"{name} = {value}\n" for name in secrets)
        settled = self.settle(file=file, path=tmp_path)
        assert len(settled.faults) == len(secrets) > 1
        assert "1234567890" not in "".join(settled.faults)

    def test_a_key_may_be_written_in_one_way_only(self, tmp_path: Path) -> None:
        file = "max-topic = 7\nmax_topic = 8\n"
        (fault,) = self.settle(file=file, path=tmp_path).faults
        assert fault.endswith(
            "kps.toml, line 2: max_topic: is the same as max-topic, which is there already"
        )


class TestToml:
    def test_lines_end_as_editors_count_them(self, tmp_path: Path) -> None:
        config = tmp_path / "f.toml"
        config.write_text("# a\u2028b\x85c\r\na = 1\n", newline="")
        assert TomlFile(str(config)).place("a") == f"{config}, line 2"

    @pytest.mark.parametrize(
        ("keys", "line"),
        [(("a",), 2), (("text",), 3), (("list",), 6), (("list", 1), 6), (("x y",), 10),
         (("t", 0), 12), (("t", 1), 14), (("t", 1, "b"), 15), (("none",), 0)],
    )  # fmt: skip
    def test_places(self, keys: tuple[str | int, ...], line: int, tmp_path: Path) -> None:
        config = tmp_path / "f.toml"
        config.write_text(
            "# a = 1\na = 1 # text = 2\ntext = '''\na = 5\n'''\nlist = [\n 1, # one\n 2,\n]\n"
            '"x y" = 1\n\n[[t]]\nb = 1\n[[t]]\nb = 2\n'
        )
        assert TomlFile(str(config)).place(*keys) == (
            f"{config}, line {line}" if line else str(config)
        )


class TestMisspelt:
    @pytest.mark.parametrize(
        ("command", "flag", "said"),
        [
            ("sub", "--cuont", "there is no option --cuont; did you mean --count?"),
            ("sub", "-count", "there is no option -count; did you mean --count?"),
            ("serve", "--max_message", "there is no option --max_message; did you mean --max-mess"),
            (
                "pub",
                "--threads",
                "there is no option --threads (kps serve and kps config check have",
            ),
            ("rtt", "--follow", "there is no option --follow (kps presence has one)"),
            ("sub", "--zzz", "there is no option --zzz"),
        ],
    )
    def test_an_option(self, command: str, flag: str, said: str) -> None:
        assert explain(load(command), flag).startswith(said)

    def test_an_option_in_front_of_the_command(self) -> None:
        assert (
            stray("--token")
            == "the option --token stands behind its command, as in 'kps sub --token'"
        )
        assert stray("--zzz") == "there is no option --zzz"
        assert stray("-v") == "there is no option -v; did you mean --version?"
        assert stray("-V") == "there is no option -V; did you mean --version?"
        with pytest.raises(UnknownOption):
            find(["--token=x", "sub"])

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["sbu"], "there is no command 'sbu'; did you mean sub?"),
            (["publish"], "there is no command 'publish'; did you mean pub?"),
            (["xyzzy"], "there is no command 'xyzzy'"),
            (["version"], "there is no command 'version'; did you mean --version?"),
            (["config"], "config is followed by check"),
            (["bridge", "nats"], "bridge is followed by mqtt"),
        ],
    )
    def test_a_command(self, words: list[str], said: str) -> None:
        with pytest.raises(Mistake) as raised:
            find(words)
        assert str(raised.value) == said

    def test_variables_of_a_server(self) -> None:
        environment = dict.fromkeys(
            ["KPS_MAX_MESAGE", "KPS_TOKNES", "KPS_PYTHON", "KPS_TOKEN", "KPS_MQTT_USER",
             "KPS_TOPIC", "KPS_WORKER", "KPS_OVERFLOW", "KPS_SERVICE_HOST", "KPS_SERVICE_PORT_BUS",
             "KPS_PORT", "KPS_PORT_9313_TCP_ADDR", "OTHER"], "1",
        )  # fmt: skip
        found = unknown_variables(SERVE, environment)
        assert [(each.name, each.meant) for each in found] == [
            ("KPS_MAX_MESAGE", "KPS_MAX_MESSAGE"),
            ("KPS_PYTHON", None),
            ("KPS_TOKNES", "KPS_TOKENS"),
        ]

    def test_variables_of_a_client(self) -> None:
        """It has few, so it is silent about those that are like none of them."""
        environment = {"KPS_ADRESS": "h", "KPS_MAX_MESAGE": "1", "KPS_TOKENS": "f"}
        assert list(map(str, unknown_variables(SUB, environment))) == [
            "the variable KPS_ADRESS means nothing; did you mean KPS_ADDRESS?"
        ]
        settled = Settled.read(SUB, [], environment)
        with pytest.raises(Mistake, match="KPS_ADRESS"):
            settled.options()

    def test_variables_are_those_of_the_tables(self) -> None:
        """A server knows those of clients without their tables, and a client asks it alone."""
        tables = {
            command.name: {each.variable for each in command.options if each.variable}
            for command in every()
        }
        of_server = tables["kps serve"]
        assert tables["kps config check"] == of_server
        assert {load("serve").prefix, load("config check").prefix} == {"KPS_"}
        others = [each for each in every() if not each.prefix]
        assert set().union(*(tables[each.name] for each in others)) == OF_CLIENTS
        assert WORKER == VARIABLE


class TestTables:
    def test_every_command_says_what_it_does_and_how(self) -> None:
        for name, command in zip(COMMANDS, every(), strict=True):
            assert command.name == f"kps {name}"
            assert command.examples, name
            assert all(example.find("kps") >= 0 for example, _ in command.examples)
            assert all(usage.startswith(command.name) for usage in command.usage)

    @pytest.mark.parametrize("columns", [40, 80, 200])
    def test_the_help_fits_the_terminal(self, columns: int) -> None:
        texts = [overview(columns)]
        for name, command in zip(COMMANDS, every(), strict=True):
            texts.append(manual(command, COMMANDS[name][1], columns))
        for text in texts:
            long = [line for line in text.splitlines() if len(line) > max(columns, 50)]
            # Names and examples are not wrapped, so that they can be copied.
            assert [line for line in long if line.startswith(" " * 24)] == []

    def test_every_option_is_in_the_help(self) -> None:
        for command in every():
            text = manual(command, "", 80)
            assert "None" not in text
            for each in command.options:
                assert each.label in text, f"{command.name} {each.name}"
                if each.flag:
                    assert each.help, f"{command.name} {each.flag}"

    def test_no_two_options_of_a_command_are_the_same(self) -> None:
        for command in every():
            for names in (
                [each.name for each in command.options],
                [each.flag for each in command.options if each.flag],
                [each.variable for each in command.options if each.variable],
                [each.key for each in command.options if each.key],
            ):
                assert len(set(names)) == len(names), command.name

    def test_defaults_are_values_of_their_options(self) -> None:
        """What the help says is the default may be given."""
        for command in every():
            for each in command.options:
                if each.kind is Kind.VALUE and each.default not in (None, (), "") and each.flag:
                    assert each.read(str(each.default)) == each.default, each.flag

    def test_secrets_are_known(self) -> None:
        secrets = {each.name for command in every() for each in command.options if each.is_secret}
        assert secrets == {"token", "relay_token", "cluster", "broker", "password"}


def test_what_asks_for_help(capsys: pytest.CaptureFixture[str]) -> None:
    def shown(*words: str) -> str:
        assert prepare(words)() == 0
        out, errors = capsys.readouterr()
        assert errors == ""
        return out

    assert shown() == shown("--help") == shown("-h") == shown("help")
    assert shown("help", "serve") == shown("serve", "--help") == shown("serve", "x", "-h", "--y")
    assert shown("help", "config", "check").startswith("Usage: kps config check [options]\n")
    assert prepare(["help", "sevre"])() == 2
    assert capsys.readouterr().err == (
        "kps help: there is no command 'sevre'; did you mean serve? (see kps help)\n"
    )


def test_the_page_is_up_to_date() -> None:
    tool = importlib.util.spec_from_file_location("tool", PAGE.parent / "make_command_line_page.py")
    assert tool is not None
    assert tool.loader is not None
    module: Any = importlib.util.module_from_spec(tool)
    tool.loader.exec_module(module)
    assert PAGE.read_text(encoding="utf-8") == module.written()


def test_options_have_an_order() -> None:
    """Those of a class before those that it inherits, and headings together."""

    def names(command: Command[Any]) -> list[Option]:
        return list(command.options)

    flags = [each.flag for each in names(SUB) if each.flag]
    assert flags.index("--count") < flags.index("--group") < flags.index("--address")
    headings = [each.heading for each in names(SUB)]
    assert len(list(dict.fromkeys(headings))) == sum(
        a != b for a, b in zip(headings, [None, *headings], strict=False)
    )
