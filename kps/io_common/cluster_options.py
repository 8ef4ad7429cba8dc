"""The options of a server that is one node of a cluster."""

import os
import ssl
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from kps.errors import InvalidArgument
from kps.io_common.tls import client_context
from kps.protocol.cluster.config import ClusterConfig
from kps.protocol.limits import shown

WITHOUT_ENGINE = ("local", "refuse")
"""What a node does while the engine is away."""

_LEAST_SECRET = 16  # bytes: signatures can be tried out at leisure
_LONGEST_NAME = 64  # characters: the name is part of each subject, whose length NATS bounds

_SCHEMES = ("nats", "tls")


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Where the engine of a cluster is, and how its nodes know each other."""

    servers: tuple[str, ...] = field(repr=False)
    """URLs of NATS servers, perhaps with passwords."""
    credentials: str | None
    """A file of credentials for them."""
    tls: ssl.SSLContext | None
    """How they are verified; ``None``: by the authorities of the system."""
    config: ClusterConfig

    @classmethod
    def read(
        cls,
        servers: object,
        name: str | None,
        secret: str | None,
        credentials: str | os.PathLike[str] | None,
        ca: str | os.PathLike[str] | None,
        without_engine: object,
    ) -> "ClusterSettings":
        """Check a program's options. Raises :class:`kps.InvalidArgument`."""
        if not isinstance(servers, str):
            raise InvalidArgument(f"cluster is the URL of a NATS server, not {shown(servers)}")
        for option, value in (("cluster_name", name), ("cluster_secret", secret)):
            if value is not None and (not isinstance(value, str) or not value):
                raise InvalidArgument(f"{option} is a text that is not empty")
        if len(name or "") > _LONGEST_NAME:
            raise InvalidArgument(f"cluster_name has at most {_LONGEST_NAME} characters")
        if secret is not None and len(secret.encode()) < _LEAST_SECRET:
            raise InvalidArgument(f"cluster_secret has at least {_LEAST_SECRET} bytes")
        if without_engine not in WITHOUT_ENGINE:
            choices = " or ".join(WITHOUT_ENGINE)
            raise InvalidArgument(f"without_engine is {choices}, not {shown(without_engine)}")
        urls = tuple(_check_url(one.strip()) for one in servers.split(","))
        if ca is not None and not all(url.startswith("tls:") for url in urls):
            raise InvalidArgument("cluster_ca needs TLS: a URL such as tls://nats:4222")
        config = ClusterConfig(
            secret=(secret or "").encode(), serves_alone=without_engine == WITHOUT_ENGINE[0]
        )
        return cls(
            urls,
            None if credentials is None else os.fspath(credentials),
            None if ca is None else client_context(os.fspath(ca)),
            config if name is None else replace(config, name=name),
        )

    @property
    def shown(self) -> str:
        """The servers without their passwords."""
        return ", ".join(map(without_password, self.servers))


def without_password(url: str) -> str:
    """Return a URL that may be logged."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one:
        raise InvalidArgument(
            "cluster is the URL of a NATS server, such as nats://localhost:4222, or several with "
            "commas between; in a password, write a comma as %2C"
        )
    return url
