"""Which model a name means: `llama3` is `llama3:latest` and `Llama3`, and whatever the operator says it is."""

import pytest

from common.types import ModelId
from hub.grid.model_names import ModelNames, known_as


@pytest.mark.parametrize(
    ("asked", "names", "found"),
    [
        ("llama3", ["llama3"], "llama3"),
        ("llama3:latest", ["llama3"], "llama3"),
        ("llama3", ["llama3:latest"], "llama3:latest"),
        ("llama3", ["llama3:latest", "llama3"], "llama3"),
        ("llama3:latest", ["llama3:latest", "llama3"], "llama3:latest"),
        ("org/llama3", ["org/llama3:latest"], "org/llama3:latest"),
        ("host:5000/llama3", ["host:5000/llama3:latest"], "host:5000/llama3:latest"),
        ("host:5000/llama3:latest", ["host:5000/llama3"], "host:5000/llama3"),
        ("llama3:8b", ["llama3", "llama3:latest", "llama3:8b:latest"], None),
        ("llama3", ["llama3:8b"], None),
        ("llama3:LATEST", ["llama3"], "llama3"),
        ("Org/LLaMA3", ["org/llama3"], "org/llama3"),
        ("Llama3", ["llama3:Latest"], "llama3:Latest"),
        ("LLAMA3", ["llama3:latest", "Llama3"], "Llama3"),
        ("LLAMA3", ["llama3", "Llama3"], "Llama3"),
        ("Llama3", ["llama3", "Llama3"], "Llama3"),
        ("llama", ["llama3", "llama3:latest"], None),
        (":latest", [], None),
        ("llama3", [], None),
    ],
)
def test_a_model_is_found_as_it_is_written_or_with_or_without_latest_or_in_another_case(
    asked: str, names: list[str], found: str | None
) -> None:
    assert known_as(ModelId(asked), [ModelId(name) for name in names]) == found


ALIASES = {
    "gpt-4o": "llama3",
    "Tiny": "small:1b",
    "tiny": "big:70b",
    "chain": "gpt-4o",
    "gone": "nobody",
    "claude-*": "big:70b",
}
SERVED = [ModelId("llama3:latest"), ModelId("big:70b"), ModelId("claude-own")]
REMEMBERED = [ModelId("small:1b"), ModelId("claude-old"), ModelId("llama3")]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("gpt-4o", "llama3:latest"),
        ("gpt-4o:latest", "llama3:latest"),
        ("GPT-4O", "llama3:latest"),
        ("Tiny", "small:1b"),
        ("tiny", "big:70b"),
        ("chain", None),
        ("gone", None),
        ("claude-3-5-sonnet-20241022", "big:70b"),
        ("Claude-Opus", "big:70b"),
        ("claude-own", "claude-own"),
        ("claude-old", "claude-old"),
        ("LLAMA3", "llama3:latest"),
        ("nobody", None),
    ],
)
def test_an_alias_leads_to_its_model(asked: str, found: str | None) -> None:
    assert ModelNames(ALIASES).find(ModelId(asked), SERVED, REMEMBERED) == found


def test_an_alias_goes_before_a_model_of_that_name_and_a_pattern_behind() -> None:
    names = ModelNames({"llama3": "big:70b", "*": "big:70b"})
    served = [ModelId("llama3"), ModelId("big:70b"), ModelId("other")]
    assert [names.find(ModelId(asked), served) for asked in ("llama3", "other", "what")] == [
        "big:70b",
        "other",
        "big:70b",
    ]


def test_a_name_that_leads_nowhere_is_told_with_what_it_stands_for() -> None:
    error = ModelNames(ALIASES).not_found(ModelId("gone"))
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    assert "'gone'" in error.message
    assert "'nobody'" in error.message
    assert "stands for" not in ModelNames(ALIASES).not_found(ModelId("other")).message


def test_aliases_are_listed_where_their_model_is_served() -> None:
    listed = ModelNames(ALIASES | {"big:70b": "nobody"}).listed(SERVED)
    aliases = {"gpt-4o": "llama3:latest", "tiny": "big:70b"}
    assert listed == {"llama3:latest": "llama3:latest", "claude-own": "claude-own"} | aliases
