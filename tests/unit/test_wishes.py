"""What headers say of the life of a request."""

import pytest

from hub.api.wishes import wishes_in
from hub.errors import InvalidRequest
from hub.requests.wishes import Wishes


@pytest.mark.parametrize(
    ("headers", "wishes"),
    [
        ({}, Wishes()),
        ({"x-ghub-resumable": "0"}, Wishes()),
        ({"x-ghub-resumable": "1"}, Wishes(is_resumable=True)),
        ({"idempotency-key": "k"}, Wishes(is_resumable=True)),
        ({"idempotency-key": "k", "x-ghub-resumable": "0"}, Wishes(is_resumable=True)),
        ({"x-ghub-failover": "on"}, Wishes()),
        ({"x-ghub-failover": "off"}, Wishes(may_continue=False)),
    ],
)
def test_they_are_what_was_said(headers: dict[str, str], wishes: Wishes) -> None:
    said = wishes_in(headers)
    assert said.wishes == wishes
    assert said.idempotency_key == headers.get("idempotency-key")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x-ghub-resumable", "yes"),
        ("x-ghub-resumable", ""),
        ("x-ghub-failover", "1"),
        ("idempotency-key", ""),
        ("idempotency-key", "k" * 256),
        ("idempotency-key", "a\nb"),
        ("idempotency-key", "\u00e9"),
    ],
)
def test_anything_else_is_refused_by_name(name: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        wishes_in({name: said})
    assert (refused.value.code, refused.value.param) == ("invalid_header", name)
