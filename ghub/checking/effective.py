"""The settings that a provider would run with, as its file would say them, secrets hidden."""

from collections.abc import Mapping
from enum import Enum

import yaml
from pydantic import SecretStr

from provider.config.layout import LAYOUT, FieldPath
from provider.config.reading import Configuration
from provider.config.words import HIDDEN, without_password
from provider.settings import ProviderSettings

Plain = str | int | float | bool | None | list[str | int]


def value_at(settings: ProviderSettings, path: FieldPath) -> Plain:
    """A setting as the file would say it."""
    if path == ("redis_url",) and settings.registers:
        return None  # the usual default does not count then: the hub names the broker
    value: object = settings
    for name in path:
        value = getattr(value, name)
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return [*value]
    if isinstance(value, str):
        return without_password(value)
    return value if isinstance(value, bool | int | float) else None


def effective_settings(configuration: Configuration) -> dict[str, dict[str, Plain]]:
    """Every setting by section and key."""
    sections: dict[str, dict[str, Plain]] = {}
    for key, path in LAYOUT.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value_at(configuration.settings, path)
    return sections


def sources(configuration: Configuration) -> Mapping[str, str]:
    """Where each value that is no default comes from: an option, a variable or a line of the file."""
    return {
        key: f"line {place.line}" if place.line is not None else place.name
        for key, path in LAYOUT.items()
        if (place := configuration.places.get(path)) is not None
    }


def effective_yaml(configuration: Configuration) -> str:
    """The effective configuration as YAML; the source of each value that is no default stands behind it."""
    told = sources(configuration)
    lines = [f"# file: {configuration.file or 'none'}; what has no source behind it is a default"]
    for section, values in effective_settings(configuration).items():
        lines += ["", f"{section}:"]
        for name, value in values.items():
            source = told.get(f"{section}.{name}")
            lines.append(f"  {_said(name, value)}" + (f"  # {source}" if source else ""))
    return "\n".join(lines) + "\n"


def _said(name: str, value: Plain) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000)
    return f"{name}: {text.strip().removesuffix('...').strip()}"
