"""What this machine is called by others."""

import ipaddress
import socket
from urllib.parse import urlsplit

SOMEWHERE = ("192.0.2.1", 9)
"""An address that nobody has (RFC 5737). To be connected to it by UDP sends nothing: it only picks a way out."""


def lan_address() -> str | None:
    """The address of this machine on the way to the world; None if it has none that others could use."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way_out:
            way_out.connect(SOMEWHERE)
            found = ipaddress.ip_address(way_out.getsockname()[0])
    except OSError:
        return None
    return None if found.is_loopback or found.is_unspecified else str(found)


def with_host(url: str, host: str) -> str:
    """The same URL at another host."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host).geturl()
