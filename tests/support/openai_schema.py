"""OpenAI's published schema, to hold answers against."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

PROJECT = Path(__file__).resolve().parents[2]
VARIABLE = "GHUB_OPENAI_SCHEMA"
"""Where it lies; without it what needs it is skipped, and fails in CI."""


@cache
def _document() -> dict[str, Any]:
    place = Path(os.environ.get(VARIABLE) or PROJECT / ".." / "shared" / "data" / "openai-openapi.json")
    if not place.exists():
        message = f"no OpenAPI document of OpenAI at {place} ({VARIABLE})"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    document: dict[str, Any] = json.loads(place.read_bytes())
    return document


def assert_is(name: str, answer: object) -> None:
    """Fail with every difference between an answer and the schema of that name in `components/schemas`."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": _document()["components"]}
    problems = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(answer)]
    assert not problems, f"no {name}: {'; '.join(problems)}"
