"""Reads a provider's settings: command line over environment over file over defaults, and says all that is wrong.

Values are put together here and not by pydantic-settings, since each must be known with its place: an error names the
line of the file, the variable or the option that it came from, and `ghub provider --check` shows them.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource
from pydantic_settings import SettingsError as UnreadableSetting

from common.errors import SettingsError
from common.logs import configure_logs
from provider.config.file import KIND, File, find_file, read_file
from provider.config.layout import OPTIONS, FieldPath, Place, is_secret, setting_of, variable_of
from provider.config.words import explained, truths
from provider.settings import ProviderSettings

log = structlog.get_logger()

URL: FieldPath = ("engine", "url")


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings, and where they come from."""

    settings: ProviderSettings
    file: Path | None = None
    """None: there is none, or none is to be read."""
    places: Mapping[FieldPath, Place] = field(default_factory=dict)
    """Of each value that is no default."""
    is_exposed: bool = False
    """Whether the file holds a secret and others on this machine can read it."""


def read_configuration(config: Path | None = None, given: Mapping[FieldPath, object] | None = None) -> Configuration:
    """Read everything that sets up a provider.

    Args:
        config: the file; None: the one that `GHUB_PROVIDER_CONFIG` names (empty: none), else the first of the default
            places that is there, else none.
        given: what the command line says; None stands for an option that was not given.

    Raises:
        SettingsError: every mistake, one a line.
    """
    path = find_file(config, os.environ)
    file = None if path is None else read_file(path)
    values, places = _joined(
        file, _environment(), {one: said for one, said in (given or {}).items() if said is not None}
    )
    wrong = [*(file.mistakes if file else ())]
    for one, mistake in truths(values, places).items():
        wrong.append(mistake)
        del values[one]
    try:
        settings = ProviderSettings.model_validate(_nested(values))
    except ValidationError as exc:
        raise SettingsError("\n".join(sorted([*wrong, *explained(exc, places)], key=_line))) from exc
    if wrong:
        raise SettingsError("\n".join(sorted(wrong, key=_line)))
    holds_secret = file is not None and any(is_secret(one) for one in file.values)
    is_exposed = file is not None and file.is_readable_by_others and holds_secret
    return Configuration(settings, path, places, is_exposed)


def start(configuration: Configuration, run: Callable[[ProviderSettings], int]) -> int:
    """Run a provider; its exit status."""
    if configuration.is_exposed:
        configure_logs(configuration.settings.log_format, configuration.settings.log_level)
        log.warning("config_readable_by_others", file=str(configuration.file), hint="it holds a secret: chmod 600")
    return run(configuration.settings)


def _joined(
    file: File | None, environment: Mapping[FieldPath, object], given: Mapping[FieldPath, object]
) -> tuple[dict[FieldPath, object], dict[FieldPath, Place]]:
    """The values that count, and their places."""
    values = {**(file.values if file else {}), **environment, **given}
    places = {
        **(file.places if file else {}),
        **{one: Place(variable_of(one)) for one in environment},
        **{one: Place(OPTIONS[one]) for one in given},
    }
    if (
        file is not None
        and file.is_kind_implied
        and URL in (*environment, *given)
        and KIND not in (*environment, *given)
    ):
        del values[KIND], places[KIND]  # an engine that is named elsewhere need not be the Ollama of the file
    return values, places


def _environment() -> dict[FieldPath, object]:
    """What the environment says, by setting; unknown variables of a section are in it, others are not.

    Raises:
        SettingsError: a variable holds a whole section, and it is no JSON.
    """
    try:
        said = EnvSettingsSource(ProviderSettings)()
    except UnreadableSetting as exc:
        named = re.search(r'field "(\w+)"', str(exc))
        raise SettingsError(f"{variable_of((named[1],)) if named else 'GHUB_PROVIDER_…'}: expected JSON") from exc
    fields = ProviderSettings.model_fields
    names = {one.validation_alias: name for name, one in fields.items() if isinstance(one.validation_alias, str)}
    values: dict[FieldPath, object] = {}
    for key, value in said.items():
        name = names.get(key, key)
        if isinstance(value, dict):
            values |= {setting_of((name, part)): leaf for part, leaf in value.items()}
        else:
            values[(name,)] = value
    return values


def _line(mistake: str) -> int:
    """The line of the file that a mistake is in; 0 if it is elsewhere."""
    found = re.search(r":(\d+): ", mistake)
    return int(found[1]) if found else 0


def _nested(values: Mapping[FieldPath, object]) -> dict[str, object]:
    nested: dict[str, object] = {}
    for (first, *rest), value in values.items():
        if rest:
            section = nested.setdefault(first, {})
            if isinstance(section, dict):
                section[rest[0]] = value
        else:
            nested[first] = value
    return nested
