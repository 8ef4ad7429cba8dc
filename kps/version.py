"""The version of KPS that is installed."""


def find_version() -> str:
    """The version, or ``unknown`` where KPS is run from a checkout that is not installed."""
    # Loading this costs more than most of the package, and few programs ask.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("kps")
    except PackageNotFoundError:
        return "unknown"
