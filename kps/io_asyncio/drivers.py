"""Which driver runs a server."""

from kps.io_asyncio.runtime import Runtime
from kps.io_asyncio.server_driver import ServerDriver, ServerFace
from kps.io_common.server_options import ServerSettings


def new_driver(face: ServerFace, runtime: Runtime, settings: ServerSettings) -> ServerDriver:
    """Return the driver that the options of a server ask for."""
    if settings.cluster is None:
        return ServerDriver(face, runtime, settings)
    from kps.io_asyncio.cluster_driver import ClusterDriver  # most servers are no nodes

    return ClusterDriver(face, runtime, settings, settings.cluster)
