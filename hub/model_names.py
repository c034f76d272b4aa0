"""Names of models: `llama3` and `llama3:latest` are one model, whichever of the two a client or an engine writes."""

from collections.abc import Container

from common.types import ModelId

_LATEST = ":latest"


def known_as(asked: ModelId, names: Container[ModelId]) -> ModelId | None:
    """Find a model among names: exactly as asked, else under its other name; None if it is there under neither."""
    if asked in names:
        return asked
    other = _other_name(asked)
    return other if other is not None and other in names else None


def _other_name(model: ModelId) -> ModelId | None:
    """The same with or without `:latest`; None for a name with another tag. A colon before a slash begins no tag."""
    if model.endswith(_LATEST):
        return ModelId(model.removesuffix(_LATEST))
    has_tag = ":" in model.rpartition("/")[2]
    return None if has_tag else ModelId(model + _LATEST)
