"""Local addresses: which are free, which others can reach, and how they are written."""

import ipaddress
import socket

import psutil

from ghub.errors import StartRefused

_TRIES = 5
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def netloc(host: str, port: int) -> str:
    """Write an address as in a URL, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_free(host: str, port: int) -> None:
    """Make sure that a server can listen there.

    Raises:
        StartRefused: it is taken, or not allowed.
    """
    try:
        _bind(host, port).close()
    except PermissionError as exc:
        raise StartRefused(f"port {port} is not allowed to this user: choose another with --port") from exc
    except OSError as exc:
        raise StartRefused(
            f"port {port} on {host} cannot be used ({exc.strerror}): choose another with --port"
        ) from exc


def free_port(wish: int, hosts: tuple[str, ...] = ("127.0.0.1",)) -> int:
    """Return `wish` if it is free on all these addresses, else a port that is.

    Raises:
        StartRefused: none was found.
    """
    for port in (wish, *[0] * _TRIES):
        try:
            with _bind(hosts[0], port) as bound:
                found = int(bound.getsockname()[1])
                for host in hosts[1:]:
                    _bind(host, found).close()
                return found
        except OSError:
            continue
    raise StartRefused(f"no port is free on {' and '.join(hosts)}")


def listening(host: str) -> tuple[str, ...]:
    """Return the addresses on which a server listens that is to be reached on 127.0.0.1 and on `host`.

    Raises:
        StartRefused: `host` is no address of anything.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]
    except OSError as exc:
        raise StartRefused(f"--host {host}: {exc.strerror}") from exc
    address = ipaddress.ip_address(str(found).partition("%")[0])
    if address.is_unspecified:
        return ("0.0.0.0", "::") if address.version == 6 else ("0.0.0.0",)  # noqa: S104 - what was asked for
    return tuple(dict.fromkeys(["127.0.0.1", str(address)]))


def near(host: str) -> str:
    """Return an address under which this machine reaches its own server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - listens there already


def near_url(host: str, port: int) -> str:
    """Return the root of a server's HTTP, as this machine reaches it, that listens on `host`."""
    return f"http://{netloc(near(host), port)}"


def far(host: str) -> list[str]:
    """Return the addresses under which other machines may reach a server that listens on `host`."""
    if host not in ("0.0.0.0", "::"):  # noqa: S104
        return [host]
    found = [
        one.address for addresses in psutil.net_if_addrs().values() for one in addresses if one.family in _FAMILIES
    ]
    kept = [ipaddress.ip_address(address) for address in found if "%" not in address]
    return [str(one) for one in kept if not one.is_loopback and (one.version == 4 or host == "::")]


def _bind(host: str, port: int) -> socket.socket:
    """Bind as servers do: a port whose last connections are still closing is free."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(1)
    except OSError:
        bound.close()
        raise
    return bound
