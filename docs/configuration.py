"""Writes docs/configuration.md from the settings themselves: `uv run python docs/configuration.py`."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from common.settings import SharedSettings
from ghub.settings import UpSettings
from hub.settings import HubSettings
from provider.settings import ProviderSettings

INTRO = """# Configuration

Made from the settings by `uv run python docs/configuration.py`. Everything is an environment variable; options of the
command line win over it. Values out of their bounds are refused at the start, by name.
"""


OPTIONS = frozenset({"host", "port", "hubs", "data_dir", "redis_url", "engine_url", "slots"})


def rows(settings: type[BaseModel], prefix: str, skip: frozenset[str]) -> Iterator[str]:
    """One table row a setting, nested ones with `__`."""
    for name, field in settings.model_fields.items():
        if name in skip:
            continue
        variable = field.validation_alias if isinstance(field.validation_alias, str) else prefix + name.upper()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from rows(field.annotation, f"{variable}__", frozenset())
        else:
            yield f"| `{variable}` | {default_of(field)} | {described(field)} |"


def default_of(field: FieldInfo) -> str:
    """The default, as one would write it."""
    if field.default_factory is not None:
        return "from the host's name"
    if field.default is None or field.default is PydanticUndefined:
        return ""
    value = getattr(field.default, "value", field.default)
    return f"`{int(value) if isinstance(value, bool) else value}`"


def described(field: FieldInfo) -> str:
    """What it means, and its bounds."""
    bounds = [
        f"{sign} {value}"
        for sign, key in ((">", "gt"), ("≥", "ge"), ("<", "lt"), ("≤", "le"))
        for value in [next((getattr(one, key) for one in field.metadata if hasattr(one, key)), None)]
        if value is not None
    ]
    text = " ".join((field.description or "").split())
    return " ".join(part for part in (text, f"({', '.join(bounds)})" if bounds else "") if part)


def page() -> str:
    """The whole page."""
    shared = frozenset(SharedSettings.model_fields)
    parts = [INTRO]
    for title, settings, prefix, skip in (
        ("Every process", SharedSettings, "GHUB_", frozenset[str]()),
        ("Hub", HubSettings, "GHUB_HUB_", shared),
        ("Provider", ProviderSettings, "GHUB_PROVIDER_", shared),
        ("`ghub up` (beside its options, see `ghub up --help`)", UpSettings, "GHUB_UP_", OPTIONS),
    ):
        parts.append(
            f"## {title}\n\n| variable | default | |\n|---|---|---|\n" + "\n".join(rows(settings, prefix, skip))
        )
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page())
