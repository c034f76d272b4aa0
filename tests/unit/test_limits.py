"""A key's limits as its client sees them: what is set aside for a request, and what the headers say."""

import json
from typing import Any

import pytest

from common.records.credentials import ClientKey
from common.records.limits import Allowance, Quota
from hub.requests.limits import duration, estimated_tokens, quota_headers

KEY = ClientKey(digest="ab" * 32, name="test", created_at=0, tpm=1000)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0ms"),
        (20, "20ms"),
        (999, "999ms"),
        (1000, "1s"),
        (1500, "1.5s"),
        (59_999, "59.999s"),
        (60_000, "1m0s"),
        (360_000, "6m0s"),
        (119_001, "2m0s"),
        (3_600_000, "1h0m0s"),
        (3_661_000, "1h1m1s"),
    ],
)
def test_times_are_written_as_openai_writes_them(ms: int, text: str) -> None:
    assert duration(ms) == text


class TestHeaders:
    def test_both_limits_are_told_with_what_is_left(self) -> None:
        quota = Quota(Allowance(60, 59, 1000), Allowance(150_000, 149_984, 360_000))
        assert quota_headers(quota) == {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "59",
            "x-ratelimit-reset-requests": "1s",
            "x-ratelimit-limit-tokens": "150000",
            "x-ratelimit-remaining-tokens": "149984",
            "x-ratelimit-reset-tokens": "6m0s",
        }

    @pytest.mark.parametrize("quota", [None, Quota()])
    def test_without_limits_there_is_nothing_to_tell(self, quota: Quota | None) -> None:
        assert quota_headers(quota) == {}


class TestTokensSetAside:
    @pytest.mark.parametrize(
        ("fields", "answer"),
        [
            ({}, 500),
            ({"max_tokens": 7}, 7),
            ({"max_completion_tokens": 8, "max_tokens": 7}, 8),
            ({"max_output_tokens": 9}, 9),
            ({"options": {"num_predict": 10}}, 10),
            ({"options": {"num_predict": -1}}, 500),
            ({"max_tokens": None, "options": []}, 500),
        ],
    )
    def test_the_answer_counts_as_its_request_limits_it(self, fields: dict[str, Any], answer: int) -> None:
        body = json.dumps(fields).encode()
        assert estimated_tokens(KEY, body, 500) == len(body) // 4 + answer

    def test_what_cannot_be_read_counts_as_if_it_set_no_limit(self) -> None:
        assert estimated_tokens(KEY, b'{"max_tokens": 5, "a": "\\ud800"', 500) == 7 + 500

    def test_a_key_without_a_limit_of_tokens_costs_no_look_at_the_body(self) -> None:
        unlimited = ClientKey(digest="ab" * 32, name="test", created_at=0)
        assert estimated_tokens(unlimited, b"no JSON", 500) == 0
