"""Which driver runs a server."""

from kps.errors import InvalidArgument
from kps.io_common.server_options import ServerSettings
from kps.io_sync.driver import Face
from kps.io_sync.runtime import Runtime
from kps.io_sync.server_driver import ServerDriver


def new_driver(face: Face, runtime: Runtime, settings: ServerSettings) -> ServerDriver:
    """Return the driver of a server. Raises :class:`kps.InvalidArgument`."""
    if settings.cluster is not None:
        raise InvalidArgument("a server with threads cannot be a node of a cluster: use kps.Server")
    return ServerDriver(face, runtime, settings)
