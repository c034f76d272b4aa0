"""Names that a shell completes: asked of the hub, for a second at most, and in silence where there is none."""

from collections.abc import Callable, Iterable, Iterator

from common.errors import GHubError
from ghub.client.hub import AdminHub

LIMIT_S = 1.0


def complete_models(incomplete: str) -> list[str]:
    """Models that begin like this."""
    return fitting(incomplete, lambda: _ids("registry", "models", "id"))


def complete_nodes(incomplete: str) -> list[str]:
    """Nodes that begin like this."""
    return fitting(incomplete, lambda: _ids("nodes", "nodes", "node"))


def complete_requests(incomplete: str) -> list[str]:
    """Open requests that begin like this."""
    return fitting(incomplete, lambda: _ids("requests", "requests", "id"))


def complete_dead(incomplete: str) -> list[str]:
    """Dead jobs that begin like this."""
    return fitting(incomplete, lambda: _ids("dead", "dead", "id"))


def complete_keys(incomplete: str) -> list[str]:
    """Names of clients' keys that begin like this."""
    return fitting(incomplete, lambda: _ids("keys", "keys", "name"))


def complete_tokens(incomplete: str) -> list[str]:
    """Names of providers' tokens that begin like this."""
    return fitting(incomplete, lambda: _ids("tokens", "tokens", "name"))


def complete_reasoned(incomplete: str) -> list[str]:
    """What `ghub why` can be asked about; of requests those whose id was begun."""
    return fitting(incomplete, lambda: _all_names(with_requests=bool(incomplete)))


def fitting(incomplete: str, names: Callable[[], Iterable[str]]) -> list[str]:
    """Those of the names that begin like this; none where they cannot be had."""
    try:
        # Names are other people's: what a shell could take for anything else than a word is left out.
        return [name for name in names() if name.startswith(incomplete) and _is_word(name)]
    except (GHubError, OSError, KeyError, TypeError):
        return []


def _ids(path: str, rows: str, field: str) -> Iterator[str]:
    hub = AdminHub.open(None, None, timeout_s=LIMIT_S)
    yield from (str(row[field]) for row in hub.get(path)[rows])


def _all_names(*, with_requests: bool) -> Iterator[str]:
    overview = AdminHub.open(None, None, timeout_s=LIMIT_S).get("overview")
    for rows in ("nodes", "models", *(("running", "waiting") if with_requests else ())):
        yield from overview.get(rows, {})


def _is_word(name: str) -> bool:
    return name.isprintable() and not any(char.isspace() or char in "'\"`$\\;&|<>(){}*?!#" for char in name)
