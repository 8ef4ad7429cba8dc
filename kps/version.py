"""The installed version of KPS."""


def find_version() -> str:
    """Return the version; ``unknown`` if KPS runs from a checkout that is not installed."""
    # This import is slower than most of the package, and few programs need it.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("kps")
    except PackageNotFoundError:
        return "unknown"
