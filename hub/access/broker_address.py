"""Where a provider finds the broker: the URL that a hub tells it."""

from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from common.settings import is_loopback

_SECRETS = frozenset({"username", "password"})


def host_of(header: str) -> str | None:
    """The host in a Host header, without port; None if there is none."""
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None


def broker_url_for(hub_url: str, reached_as: str | None, *, shared: bool = False) -> str:
    """The broker's URL as a provider elsewhere can use it.

    Args:
        hub_url: the hub's own broker URL.
        reached_as: the host under which the provider reaches the hub. It stands in for a loopback address, which leads
            nowhere from another machine: the broker then runs beside the hub.
        shared: keep user and password in it.
    """
    parts = urlsplit(hub_url)
    if parts.scheme == "unix" or parts.hostname is None:
        return hub_url if shared else _without_secrets(hub_url)
    host, at = parts.hostname, ""
    if shared:
        user, sign, _ = parts.netloc.rpartition("@")
        at = user + sign
    if is_loopback(host) and reached_as is not None and not is_loopback(reached_as):
        host = reached_as
    literal = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port is not None else ""
    url = _joined(parts._replace(netloc=f"{at}{literal}{port}"))
    return url if shared else _without_secrets(url)


def _without_secrets(url: str) -> str:
    """Without user and password, which redis-py takes in a URL's query too."""
    parts = urlsplit(url)
    netloc = parts.netloc.rpartition("@")[2]
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in _SECRETS]
    return _joined(parts._replace(netloc=netloc, query=urlencode(kept)))


def _joined(parts: SplitResult) -> str:
    """The URL; urlunsplit leaves out the slashes where there is no host."""
    return f"{parts.scheme}://{parts.netloc}{parts.path}{'?' if parts.query else ''}{parts.query}"
