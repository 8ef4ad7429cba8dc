"""The options of a client in the family's names."""

from typing import TypedDict

from kps.compat.values import UnifiedCallback, adapt, no_topic
from kps.io_common.client_hooks import OnClose, OnFrame
from kps.io_common.client_options import ClientOptions
from kps.protocol.dialect.level2 import LEVEL


class UnifiedOptions(TypedDict, total=False):
    """The keyword arguments of ``Client.NewClient`` besides ``Address``."""

    Id: str | None
    Secure: bool
    Path: str | None
    Autorestart: bool
    RestartEvery: float
    OnDataWs: OnFrame | None
    OnId: UnifiedCallback | None
    OnClose: OnClose | None


def client_options(
    *,
    Id: str | None = None,
    Secure: bool = False,
    Path: str | None = None,
    Autorestart: bool = False,
    RestartEvery: float = 10.0,
    OnDataWs: OnFrame | None = None,
    OnId: UnifiedCallback | None = None,
    OnClose: OnClose | None = None,
) -> ClientOptions:
    """Translate the options of ``NewClient`` into those of :class:`kps.Client`."""
    return {
        "id": Id,
        "secure": Secure,
        "path": Path,
        "reconnect": RestartEvery if Autorestart else False,
        "on_frame": OnDataWs,
        "level": 1 if OnDataWs is not None else LEVEL,
        "on_id": adapt(OnId, no_topic) if OnId is not None else None,
        "on_close": OnClose,
    }
