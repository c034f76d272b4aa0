"""How hub and provider listen: one socket, and a uvicorn that leaves signals and draining to its process."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from common.errors import SettingsError

BACKLOG = 2048
FORCED_END_S = 1
"""What uvicorn grants connections after the process' own drain, s."""


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: the process drains before the server may stop."""

    def __init__(self, app: Any) -> None:  # noqa: ANN401 - any ASGI application
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=75,  # longer than the 60 s after which common proxies let go
                timeout_graceful_shutdown=FORCED_END_S,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process."""
        yield


def listen(host: str, port: int, *, send_timeout_s: float, reuse_port: bool = False) -> socket.socket:
    """A socket to serve on.

    Args:
        host: an address of this machine.
        port: 0 takes any free one.
        send_timeout_s: how long a client may read nothing before its connection ends.
        reuse_port: whether other processes may listen on the same port.

    Raises:
        SettingsError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # A connection whose client reads nothing would otherwise outlive the answer that was cut off, for ever.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(send_timeout_s * 1000))
    if reuse_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise SettingsError(f"cannot listen on {host}:{port}: {exc.strerror}") from exc
    return listener
