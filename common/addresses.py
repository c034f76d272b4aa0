"""Addresses: what this machine is called by others, and who reaches a server that is bound to one."""

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


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_wildcard(host: str) -> bool:
    """Whether a server bound to this address listens on all that its machine has, so that it is no place to go to."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host
