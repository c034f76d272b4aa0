"""A picture that is kept up to date, and the figures and words around it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.reasons import WORDS, Reason, short_words_of
from ghub.admin.usage import summed, total
from ghub.client.event_stream import StreamComment, StreamEvent
from ghub.client.hub import HubUnmoved
from ghub.client.options import with_watch_seconds
from ghub.live.following import _next
from ghub.live.picture import age_ms, merged
from ghub.showing.figures import count, duration, gpu_in_words, latency, rate
from hub.overview.merge_patch import merge_patch

NAMES = st.sampled_from("abc")
LEAVES = st.integers(0, 3) | st.lists(st.integers(0, 2), max_size=2)
PICTURES = st.dictionaries(NAMES, st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner), max_leaves=6))


@given(PICTURES, PICTURES)
def test_what_the_hub_says_has_changed_makes_the_next_picture(before: dict[str, Any], after: dict[str, Any]) -> None:
    kept = repr(before)
    assert merged(before, merge_patch(before, after)) == after
    assert repr(before) == kept


def test_a_null_deletes_and_a_list_is_put_in_whole() -> None:
    assert merged({"a": {"b": 1, "c": [1, 2]}, "d": 1}, {"a": {"b": None, "c": [3]}, "d": {"e": None}}) == {
        "a": {"c": [3]},
        "d": {},
    }


def test_events_make_pictures_and_nonsense_is_refused() -> None:
    first = _next(None, StreamEvent("snapshot", '{"at": 1, "nodes": {}}'))
    assert first == {"at": 1, "nodes": {}}
    assert _next(first, StreamEvent("patch", '{"at": 2}')) == {"at": 2, "nodes": {}}
    assert _next(first, StreamEvent("news", "{}")) is first
    assert _next(first, StreamComment("still here")) is first
    for wrong in (StreamEvent("patch", "{}"), StreamEvent("snapshot", "[]")):
        with pytest.raises(HubUnmoved):
            _next(None, wrong)


def test_figures_are_short() -> None:
    spans = [-5, 0, 400, 9_949, 9_951, 119_000, 121_000, 7_300_000, 400_000_000, None]
    told = ["0.0 s", "0.0 s", "0.4 s", "9.9 s", "10 s", "119 s", "2 min", "2 h", "5 d", "-"]
    assert [duration(span) for span in spans] == told
    assert [rate(pace) for pace in (None, 0, 31.44, 1234.5)] == ["-", "0.0", "31.4", "1,234"]
    assert [count(number) for number in (None, 7, 12_345, 1_234_567)] == ["-", "7", "12,345", "1.2 M"]
    assert [latency(ms) for ms in (120, 1500)] == ["120 ms", "1.5 s"]
    gpu = {"name": "A", "utilization_pct": 0, "memory_used_mib": 1024, "memory_total_mib": 2048}
    assert [gpu_in_words(gpu), gpu_in_words({"name": "A"})] == ["A 0 % 1.0/2.0 GiB", "A"]


def test_ages_are_by_the_clock_of_the_picture() -> None:
    assert [age_ms({"at": 5000}, 2000), age_ms({}, 2000), age_ms({"at": 5}, None)] == [3000, None, None]


def test_every_reason_of_a_provider_has_short_words() -> None:
    assert {*Reason} == {*WORDS}
    assert short_words_of("something-new") == "something-new"


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("nodes --watch", "nodes --watch=2"),
        ("nodes --watch 0.5", "nodes --watch 0.5"),
        ("nodes --watch=5 --json", "nodes --watch=5 --json"),
        ("nodes --watch --json", "nodes --watch=2 --json"),
        ("requests --model --watch", "requests --model --watch=2"),
        ("nodes", "nodes"),
        ("", ""),
    ],
)
def test_seconds_may_be_left_out(typed: str, read: str) -> None:
    assert with_watch_seconds(typed.split()) == read.split()


def test_use_is_summed_by_key_and_model_whatever_the_day() -> None:
    def used(day: str, model: str, tokens: int) -> dict[str, Any]:
        figures = {"requests": 1, "prompt_tokens": tokens, "completion_tokens": 1, "estimated": 0}
        return {"key": "k", "name": "me", "day": day, "model": model, **figures}

    rows = [used("2026-11-22", "a", 1), used("2026-11-21", "b", 9), used("2026-11-21", "a", 2)]
    assert [(row["model"], row["requests"], row["prompt_tokens"]) for row in summed(rows)] == [("b", 1, 9), ("a", 2, 3)]
    assert total(rows) == {"requests": 3, "prompt_tokens": 12, "completion_tokens": 3, "estimated": 0}
