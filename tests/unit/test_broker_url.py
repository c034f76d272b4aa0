"""A broker's URL, taken apart and put together again."""

import pytest

from common.broker.url import Address, BrokerUrl
from provider.membership.access import is_bare

FULL = "rediss+sentinel://me:p%40ss@s1:26380,[2001:db8::1]:1,s3/my%20grid/2?ssl_cert_reqs=none&sentinel_password=a%26b"


def test_a_service_behind_sentinels_is_taken_apart() -> None:
    url = BrokerUrl.parse(FULL)
    assert url.addresses == (Address("s1", 26380), Address("2001:db8::1", 1), Address("s3"))
    assert (url.service, url.database, url.has_tls, url.has_sentinels) == ("my grid", "2", True, True)
    assert url.sentinel_secrets == {"password": "a&b"}
    assert url.server_url == "rediss://me:p%40ss@/2?ssl_cert_reqs=none"


@pytest.mark.parametrize(
    "url",
    [
        FULL,
        "redis://127.0.0.1:6379/0",
        "redis://broker",
        "rediss://user:word@broker:6380/1?a=b",
        "unix:///run/valkey.sock?db=2",
        "redis+sentinel://s1/main",
        "redis+cluster://c1",
        "rediss+cluster://user:word@c1:7000,[::1]:7001?a=b",
    ],
)
def test_it_says_the_same_again(url: str) -> None:
    assert str(BrokerUrl.parse(url)) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "broker:6379",
        "//broker",
        "http://broker",
        "redis+cluster://",
        "redis+cluster://c1,,c2",
        "redis+cluster://c1:port",
        "redis+cluster://c1/1",
        "redis://broker:port/0",
        "redis+sentinel://s1:26379",
        "redis+sentinel://s1:26379/",
        "redis+sentinel:///main",
        "redis+sentinel://s1,,s2/main",
        "redis+sentinel://s1:port/main",
        "redis+sentinel://s1:70000/main",
        "redis+sentinel://s1/main/zero",
        "redis+sentinel://s1/main/0/1",
    ],
)
def test_what_leads_nowhere_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected|Port|is not one of") as refusal:
        BrokerUrl.parse(url.replace("://", "://me:secret@"))
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("redis+sentinel://127.0.0.1:1,[::1]:2,localhost/main", False),
        ("redis+sentinel://127.0.0.1:1,192.0.2.7:2/main", True),
        ("rediss+sentinel://192.0.2.7:2/main", False),
    ],
)
def test_one_sentinel_on_another_machine_makes_a_wire_without_tls(url: str, bare: bool) -> None:
    assert is_bare(url) == bare
