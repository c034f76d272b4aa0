"""The broker's URL as a hub tells it to providers: one that leads there, without what is the hub's own."""

import pytest

from hub.access.broker_address import broker_url_for, host_of


@pytest.mark.parametrize(
    ("hub_url", "reached_as", "told"),
    [
        ("redis://broker.example.org:6379/0", "hub.example.org", "redis://broker.example.org:6379/0"),
        ("redis://127.0.0.1:6379/0", "hub.example.org", "redis://hub.example.org:6379/0"),
        ("redis://localhost/1", "192.0.2.7", "redis://192.0.2.7/1"),
        ("rediss://[::1]:6380", "hub.example.org", "rediss://hub.example.org:6380"),
        ("redis://127.0.0.1:6379/0", "2001:db8::1", "redis://[2001:db8::1]:6379/0"),
        ("redis://127.0.0.1:6379/0", "127.0.0.1", "redis://127.0.0.1:6379/0"),
        ("redis://127.0.0.1:6379/0", "localhost", "redis://127.0.0.1:6379/0"),
        ("redis://127.0.0.1:6379/0", None, "redis://127.0.0.1:6379/0"),
        ("redis://hub:s%40cret@127.0.0.1:6379/0", "hub.example.org", "redis://hub.example.org:6379/0"),
        ("redis://:secret@broker:6379/0?timeout=3", None, "redis://broker:6379/0?timeout=3"),
        ("redis://broker/0?username=hub&password=secret&a=b", None, "redis://broker/0?a=b"),
        ("unix:///run/valkey.sock?db=1&password=secret", "hub.example.org", "unix:///run/valkey.sock?db=1"),
        ("unix://hub:secret@/run/valkey.sock", None, "unix:///run/valkey.sock"),
        (
            "redis+sentinel://hub:s%40cret@127.0.0.1:26379,s2:26380/main/1?sentinel_password=x&password=y&a=b",
            "hub.example.org",
            "redis+sentinel://hub.example.org:26379,s2:26380/main/1?a=b",
        ),
        ("rediss+sentinel://s2,[::1]:26379,s1/main", "::1", "rediss+sentinel://[::1]:26379,s1,s2/main"),
        ("redis+cluster://hub:s@c2,127.0.0.1:7000,c1?password=x", "h", "redis+cluster://c1,c2,h:7000"),
    ],
)
def test_it_leads_there_and_holds_no_secret(hub_url: str, reached_as: str | None, told: str) -> None:
    assert broker_url_for(hub_url, reached_as) == told


@pytest.mark.parametrize(
    ("hub_url", "reached_as", "told"),
    [
        ("redis://all:secret@127.0.0.1:6379/0", "hub.example.org", "redis://all:secret@hub.example.org:6379/0"),
        ("redis://all:s%40c@broker/0?password=x", None, "redis://all:s%40c@broker/0?password=x"),
        ("unix://all:secret@/run/valkey.sock", None, "unix://all:secret@/run/valkey.sock"),
        (
            "redis+sentinel://all:s@s1:1,s2:2/main?sentinel_password=x",
            None,
            "redis+sentinel://all:s@s1:1,s2:2/main?sentinel_password=x",
        ),
    ],
)
def test_a_shared_one_keeps_what_lets_one_in(hub_url: str, reached_as: str | None, told: str) -> None:
    assert broker_url_for(hub_url, reached_as, shared=True) == told


def test_what_sentinels_ask_for_is_told_only_where_it_was_set_for_providers() -> None:
    url = "redis+sentinel://hub:s@s1:1,s2:2/main?sentinel_username=look&sentinel_password=x"
    assert broker_url_for(url, None) == "redis+sentinel://s1:1,s2:2/main"
    told = "redis+sentinel://s1:1,s2:2/main?sentinel_username=look&sentinel_password=x"
    assert broker_url_for(url, None, is_own=False) == told


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("hub.example.org:8080", "hub.example.org"),
        ("hub.example.org", "hub.example.org"),
        ("[2001:db8::1]:8080", "2001:db8::1"),
        ("", None),
        ("[2001:db8", None),
        ("user:secret@hub.example.org", "hub.example.org"),
    ],
)
def test_the_host_is_read_out_of_its_header(header: str, host: str | None) -> None:
    assert host_of(header) == host
