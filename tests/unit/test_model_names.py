"""One model under two names: `llama3` is `llama3:latest`."""

import pytest

from common.types import ModelId
from hub.model_names import known_as


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
        ("llama3:LATEST", ["llama3"], None),
        ("llama", ["llama3", "llama3:latest"], None),
        (":latest", [], None),
        ("llama3", [], None),
    ],
)
def test_a_model_is_found_as_it_is_written_or_with_or_without_latest(
    asked: str, names: list[str], found: str | None
) -> None:
    assert known_as(ModelId(asked), [ModelId(name) for name in names]) == found
