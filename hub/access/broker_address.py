"""Where a provider finds the broker: the URL that a hub tells it."""

from dataclasses import replace

from common.addresses import is_loopback
from common.broker.url import SENTINEL_SECRETS, Address, BrokerUrl
from hub.access.this_machine import host_in


def host_of(header: str) -> str | None:
    """The host in a Host header, without port; None if there is none."""
    return host_in(f"//{header}") or None


def broker_url_for(hub_url: str, reached_as: str | None, *, shared: bool = False, is_own: bool = True) -> str:
    """The broker's URL as a provider elsewhere can use it.

    Args:
        hub_url: the hub's own broker URL, or the one that was set for providers.
        reached_as: the host under which the provider reaches the hub. It stands in for a loopback address, which leads
            nowhere from another machine: the broker then runs beside the hub.
        shared: keep user and password in it.
        is_own: it is the hub's own: what the hub shows sentinels is not handed on, since who may command them may
            make any server the master. One set for providers keeps it.
    """
    url = BrokerUrl.parse(hub_url)

    def seen(host: str) -> str:
        return host if reached_as is None or is_loopback(reached_as) or not is_loopback(host) else reached_as

    url = url.moved(seen)
    # Hubs that list sentinels, or servers of a cluster, in another order mean the same broker.
    url = replace(url, addresses=tuple(sorted(url.addresses, key=_in_order)))
    if url.has_sentinels and is_own and not shared:
        url = url.without(SENTINEL_SECRETS)
    return str(url if shared else url.without_who())


def _in_order(address: Address) -> tuple[str, int]:
    return address.host, address.port or 0
