"""Who counts as somebody on the hub's own machine, and so may be let in without the admin token."""

from typing import Any

import pytest

from hub.access.this_machine import is_from_this_machine


def scope(client: str | None = "127.0.0.1", version: str = "1.1", **headers: str) -> dict[str, Any]:
    told = {"host": "127.0.0.1:8080", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return {
        "type": "http",
        "http_version": version,
        "client": None if client is None else (client, 50_000),
        "headers": [(name.encode(), value.encode()) for name, value in told.items()],
    }


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "grid.localhost:8080", "127.0.0.7"])
def test_a_tool_on_this_machine_is(host: str) -> None:
    assert is_from_this_machine(scope(host=host))
    assert is_from_this_machine(scope("::1", host=host))


def test_a_page_of_this_hub_in_a_browser_on_this_machine_is() -> None:
    assert is_from_this_machine(scope(origin="http://127.0.0.1:8080", sec_fetch_site="same-origin"))
    assert is_from_this_machine(scope(sec_fetch_site="none"))


@pytest.mark.parametrize("client", ["192.168.1.7", "10.0.0.1", "2001:db8::1", None])
def test_nobody_on_another_machine_is(client: str | None) -> None:
    assert not is_from_this_machine(scope(client))


@pytest.mark.parametrize(
    "host", ["grid.example.org", "192.168.1.7:8080", "127.0.0.1.example.org", "", "[", "localhost.example.org"]
)
def test_what_was_sent_to_another_name_is_not(host: str) -> None:
    assert not is_from_this_machine(scope(host=host))


def test_what_names_two_hosts_or_none_is_not() -> None:
    one = scope()
    assert not is_from_this_machine({**one, "headers": one["headers"] * 2})
    assert not is_from_this_machine({**one, "headers": []})


@pytest.mark.parametrize(
    "headers",
    [
        {"forwarded": "for=192.0.2.60"},
        {"x_forwarded_for": "192.0.2.60"},
        {"x_forwarded_proto": "https"},
        {"x_real_ip": "192.0.2.60"},
        {"via": "1.1 proxy"},
        {"cf_connecting_ip": "192.0.2.60"},
    ],
)
def test_what_a_proxy_on_this_machine_handed_on_is_not(headers: dict[str, str]) -> None:
    assert not is_from_this_machine(scope(**headers))


def test_what_the_plainest_proxies_hand_on_is_not() -> None:
    assert not is_from_this_machine(scope(version="1.0"))


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9000"},
        {"origin": "http://["},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
def test_what_a_page_of_another_origin_asks_for_is_not(headers: dict[str, str]) -> None:
    assert not is_from_this_machine(scope(**headers))
