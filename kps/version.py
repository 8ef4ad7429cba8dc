"""The version of KPS. The package's metadata take it from here, as reading those is slow."""

__version__ = "0.1.0"
