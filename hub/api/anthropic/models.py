"""The list of models in Anthropic's form, for clients that ask in its words: the path is OpenAI's too."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from common.types import ModelId


def is_anthropic(headers: Mapping[str, str]) -> bool:
    """Whether a client of Anthropic's API asks: all of them send the version that they speak."""
    return "anthropic-version" in headers


def describe_model(name: ModelId, since_s: int) -> dict[str, Any]:
    """One model; `since_s`: since when it is there, Unix time."""
    created_at = datetime.fromtimestamp(since_s, UTC).isoformat().replace("+00:00", "Z")
    return {"type": "model", "id": name, "display_name": name, "created_at": created_at, "lifecycle": "active"}


def list_models(models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All of them, on one page."""
    ends = {"first_id": models[0]["id"], "last_id": models[-1]["id"]} if models else {"first_id": None, "last_id": None}
    return {"data": models, "has_more": False, **ends}
