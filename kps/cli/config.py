"""The command ``kps config check``."""

from collections.abc import Iterator

from kps.cli.complaints import complain, visible
from kps.cli.declaring import Command
from kps.cli.line import Mistake
from kps.cli.serve import check_together, is_open, new_server
from kps.cli.serve_options import ServeOptions, limit_options
from kps.cli.sources import Settled
from kps.errors import KPSError
from kps.protocol.bus.history import History

_NAME = "kps config check"


def check_config(settled: Settled) -> int:
    """Print what is set, and where. Say what is wrong with it, and return 2 if something is."""
    faults = [*settled.faults, *_deeper_faults(settled)]
    rows = [(name, _shown(settled, name), value.origin) for name, value in settled.values.items()]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    for name, value, origin in sorted(rows):
        print(visible(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {origin}"))
    for name in settled.unknown:
        complain(f"{_NAME}: the variable {name} means nothing")
    for fault in faults:
        complain(f"{_NAME}: {fault}")
    if faults:
        return 2
    if is_open(settled.options()):
        about = "everybody who reaches this machine may connect"
        complain(f"{_NAME}: {about}, without --tokens, --jwt-key or --tls-client-ca")
    print("this is fine")
    return 0


def _deeper_faults(settled: Settled) -> Iterator[str]:
    """Yield what a server says about values each of which can be read.

    A value is to blame if the server says something else without it. What needs it goes with it, or
    that would be said of it.
    """
    left = settled.without(())
    while (fault := _fault(left)) is not None:
        causes = [name for name in left.values if _fault(left.without([name])) != fault]
        places = "; ".join(dict.fromkeys(left.values[name].origin for name in causes))
        yield f"{places}: {fault}" if places else fault
        if not causes:
            return
        left = left.without(causes)


def _fault(settled: Settled) -> str | None:
    """Return why a server cannot start with what is set, if it cannot."""
    try:
        options: ServeOptions = settled.options()
        check_together(options)
        new_server(options)  # which reads all files, and does not listen
    except (Mistake, KPSError) as error:
        return str(error)
    return None


def _shown(settled: Settled, name: str) -> str:
    """Return a value as it would be written, unless it is secret."""
    value = settled.values[name].value
    if any(option.is_secret for option in settled.command.options if option.name == name):
        return "..."
    values = value if isinstance(value, tuple) else (value,)
    return ", ".join(map(_written, values))


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, History):
        ttl = "" if value.ttl is None else f",{value.ttl:g}"
        return f"{value.topics}={value.size}{ttl}"
    return f"{value:g}" if isinstance(value, float) else str(value)


COMMAND = Command(
    _NAME,
    ServeOptions,
    judge=check_config,
    about=[
        "It reads the command line, variables and the file as 'kps serve' does, with the same "
        "options, and the certificates, keys and tokens that these name. It prints what is set, "
        "and where that is from. It listens on no port, and changes nothing."
    ],
    examples=[
        ("kps config check", "of the variables of this shell"),
        ("kps config check --config kps.toml", "of the file, too"),
    ],
    exits={0: "a server can start so", 2: "something is wrong, which standard error says"},
    prefix="KPS_",
    more=limit_options(),
    make=ServeOptions.of,
)
