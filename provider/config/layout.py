"""Where each setting stands in the file, what its variable and its option are called, and what it may be."""

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from common.settings import SharedSettings
from provider.settings import ProviderSettings, Section

FieldPath = tuple[str, ...]
"""A setting: `("name",)` or `("gate", "threshold_pct")`."""

_FLAT: Mapping[str, str] = {
    "hub_url": "provider.url",
    "token": "provider.api_key",
    "redis_url": "redis.url",
    "prefix": "redis.prefix",
    "log_format": "log.format",
    "log_level": "log.level",
    "traces": "traces.enabled",
    "traces_endpoint": "traces.endpoint",
    "traces_ratio": "traces.ratio",
    "traces_content": "traces.content",
}
"""Settings that belong to no section of their own; the others stand under `provider` by their name."""

_ORDER = ("provider", "engine", "gate", "schedule", "server", "tunnel", "report", "redis", "log", "traces")

OPTIONS: Mapping[FieldPath, str] = {
    ("redis_url",): "--redis-url",
    ("hub_url",): "--hub-url",
    ("token",): "--token",
    ("engine", "url"): "--engine-url",
    ("name",): "--name",
    ("slots",): "--slots",
    ("server", "port"): "--port",
}
"""Settings that the command line can give."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written."""

    name: str
    """As errors name it: an option, a variable, or a file with line and key."""
    line: int | None = None
    """In the file; None: it is not from there."""

    def __str__(self) -> str:
        return self.name


def _section_of(field: FieldInfo) -> type[Section] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _layout() -> Iterator[tuple[str, FieldPath]]:
    for name, field in ProviderSettings.model_fields.items():
        if (section := _section_of(field)) is None:
            yield _FLAT.get(name, f"provider.{name}"), (name,)
        else:
            yield from ((f"{name}.{key}", (name, key)) for key in section.model_fields)


def _aliases() -> Iterator[tuple[str, FieldPath]]:
    yield "provider.token", ("token",)
    yield "provider.hub_url", ("hub_url",)
    yield "ngrok.url", ("tunnel", "url")
    for key, path in LAYOUT.items():
        section, _, name = key.partition(".")
        if section == "engine" and name != "kind":
            yield f"ollama.{name}", path


def _rank(place: tuple[str, FieldPath]) -> tuple[int, bool]:
    """By section; what every process has comes after what is the provider's own."""
    key, path = place
    return _ORDER.index(key.partition(".")[0]), path[0] in SharedSettings.model_fields


LAYOUT: Mapping[str, FieldPath] = dict(sorted(_layout(), key=_rank))
"""Every key of the file by its first name, in the order in which people read them."""
KEYS: Mapping[str, FieldPath] = {**LAYOUT, **dict(_aliases())}
"""Every key that may be written, second names too."""
KEY_OF: Mapping[FieldPath, str] = {path: key for key, path in LAYOUT.items()}
SECTIONS: tuple[str, ...] = tuple(dict.fromkeys(key.partition(".")[0] for key in KEYS))


def field_at(path: FieldPath) -> FieldInfo:
    """What is known of a setting; KeyError if it is none."""
    field = ProviderSettings.model_fields[path[0]]
    section = _section_of(field)
    if section is None or len(path) == 1:
        return field
    return section.model_fields[path[1]]


def setting_of(location: tuple[str | int, ...]) -> FieldPath:
    """The setting that a place inside its value belongs to; the place itself if there is no such setting."""
    names = tuple(str(part) for part in location)
    return next((names[:length] for length in (1, 2) if names[:length] in KEY_OF), names)


def variable_of(path: FieldPath) -> str:
    """The environment variable of a setting."""
    first, *rest = path
    field = ProviderSettings.model_fields.get(first)
    alias = None if field is None else field.validation_alias
    name = alias if isinstance(alias, str) else f"{ProviderSettings.model_config.get('env_prefix', '')}{first}"
    return "__".join([name, *rest]).upper()


def is_secret(path: FieldPath) -> bool:
    """Whether nobody may see its value."""
    return SecretStr in _kinds(field_at(path).annotation)


def takes(path: FieldPath, kind: type) -> bool:
    """Whether its value may be of a kind."""
    return kind in _kinds(field_at(path).annotation)


def limits(field: FieldInfo) -> dict[str, float]:
    """The bounds of a number, by `gt`, `ge`, `lt` and `le`."""
    return {
        name: value
        for name in ("gt", "ge", "lt", "le")
        for value in [next((getattr(one, name) for one in field.metadata if hasattr(one, name)), None)]
        if value is not None
    }


def expected(path: FieldPath) -> str:
    """What a setting may be, in words that follow `expected`."""
    field = field_at(path)
    kinds = _kinds(field.annotation)
    if choices := _choices(kinds):
        return f"one of {', '.join(choices)}"
    if bool in kinds:
        return "true or false"
    if any(get_origin(kind) is tuple for kind in kinds):
        return f"a list such as {field.examples[0]}" if field.examples else "a list of texts"
    for kind, words in ((float, "a number"), (int, "a whole number")):
        if kind in kinds:
            return f"{words}{_range(limits(field))}"
    return "an http:// or https:// URL" if path[-1].endswith("url") else "text (a number stands in quotes)"


def nearest(word: str, choices: list[str]) -> str:
    """A hint at the choice that was perhaps meant; empty if none is like it."""
    found = get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


def _kinds(annotation: object) -> list[object]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [kind for part in get_args(annotation) for kind in _kinds(part)]
    return [annotation]


def _choices(kinds: list[object]) -> list[str]:
    found: list[str] = []
    for kind in kinds:
        if get_origin(kind) is Literal:
            found += [str(value) for value in get_args(kind)]
        elif isinstance(kind, type) and issubclass(kind, Enum):
            found += [str(one.value) for one in kind]
    return found


def _range(bounds: Mapping[str, float]) -> str:
    if "ge" in bounds and "le" in bounds:
        return f" from {_plain(bounds['ge'])} to {_plain(bounds['le'])}"
    words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}
    return ",".join(f" {words[name]} {_plain(value)}" for name, value in bounds.items())


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)
