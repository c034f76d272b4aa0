"""Refusals of the provider's own HTTP: what a client needs to do better stands in the headers."""

import json

import pytest

from provider.api.errors import refusal
from provider.errors import CallRefused


@pytest.mark.parametrize(
    ("code", "scheme"), [("hmac_missing", "X-Inferoute-HMAC"), ("invalid_control_token", "Bearer")]
)
def test_a_401_names_what_it_wants_to_see(code: str, scheme: str) -> None:
    assert refusal(CallRefused(401, code, "no")).headers["www-authenticate"] == scheme


def test_only_who_may_try_again_hears_when() -> None:
    assert refusal(CallRefused(503, "provider_busy", "no", retry_after_s=5)).headers["retry-after"] == "5"
    assert "retry-after" not in refusal(CallRefused(503, "no_hub", "no")).headers


@pytest.mark.parametrize(("status", "kind"), [(400, "invalid_request_error"), (503, "server_error")])
def test_the_body_has_openai_s_form(status: int, kind: str) -> None:
    answer = refusal(CallRefused(status, "a_code", "a sentence"))
    error = {"message": "a sentence", "type": kind, "param": None, "code": "a_code"}
    assert (answer.status_code, json.loads(bytes(answer.body))) == (status, {"error": error})
    assert answer.headers["cache-control"] == "no-store"
    assert "www-authenticate" not in answer.headers
