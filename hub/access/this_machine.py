"""Tells whether a request was made on the hub's own machine, by its operator's browser or tools, and by nothing else.

The address a connection comes from is not enough: a proxy on this machine hands on what comes from anywhere, and a
browser here asks for any page that tells it to. So nothing may have handed the request on, it must have been sent to
this machine by a local name, and no page of another origin may have asked for it.
"""

from urllib.parse import urlsplit

from starlette.types import Scope

from common.addresses import is_loopback

_HANDED_ON = (
    b"forwarded",
    b"x-forwarded-",
    b"x-real-ip",
    b"via",
    b"x-envoy-",
    b"cf-",
    b"true-client-ip",
    b"x-client-ip",
)
"""What headers begin with that proxies add."""
_OWN_SITES = (b"same-origin", b"none")
"""Sec-Fetch-Site of a page of this hub's own, and of an address that somebody typed."""


def is_from_this_machine(scope: Scope) -> bool:
    """Whether an HTTP request was made here."""
    client = scope.get("client")
    if client is None or not is_loopback(client[0]):
        return False
    if scope.get("http_version") == "1.0":  # browsers and tools speak 1.1; proxies of the plainest kind don't
        return False
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if any(name.startswith(_HANDED_ON) for name, _ in headers):
        return False
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1 or not is_local_name(host_in(f"//{hosts[0].decode('latin-1')}")):
        return False
    origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
    if any(netloc_in(origin) != hosts[0].decode("latin-1").lower() for origin in origins):
        return False
    return all(value in _OWN_SITES for name, value in headers if name == b"sec-fetch-site")


def is_local_name(name: str) -> bool:
    """Whether a name can only mean the machine that it is used on."""
    return is_loopback(name) or name.endswith(".localhost")


def host_in(url: str) -> str:
    """The host in a URL; empty where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def netloc_in(origin: str) -> str:
    """Host and port of an origin; empty where it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
