"""Local addresses: which are free, and how they are written."""

import socket

from ghub.errors import StartRefused


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


def free_port(wish: int) -> int:
    """Return `wish` if it is free on 127.0.0.1, else any port that is."""
    for port in (wish, 0):
        try:
            with _bind("127.0.0.1", port) as bound:
                return int(bound.getsockname()[1])
        except OSError:
            continue
    raise StartRefused("no port is free on 127.0.0.1")


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
