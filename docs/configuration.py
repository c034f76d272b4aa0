"""Writes docs/configuration.md and deploy/provider.example.yaml from the settings themselves.

Run it as `uv run python docs/configuration.py`.
"""

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from common.settings import ProcessSettings, SharedSettings
from ghub.connect.settings import ConnectSettings
from ghub.settings import UpSettings
from hub.settings import HubSettings
from provider.config.layout import LAYOUT, field_at, limits, variable_of
from provider.settings import ProviderSettings

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/configuration.md"
EXAMPLE = ROOT / "deploy/provider.example.yaml"

INTRO = """# Configuration

Made from the settings by `uv run python docs/configuration.py`. Everything is an environment variable; options of the
command line win over it. A provider reads a file too. Values out of their bounds are refused at the start, by name.
"""

PROVIDER_INTRO = """An option of `ghub provider` wins over a variable, that over the file, that over the default.
The file is the one that `--config` or `GHUB_PROVIDER_CONFIG` names (empty: none), else `ghubai/provider.yaml` in
the user's configuration folder (`~/.config` on Linux), else `/etc/ghubai/provider.yaml`; none is needed.
`deploy/provider.example.yaml` in a checkout holds every key.

- `ollama: {url: …}` is short for an `engine` of the kind `ollama`, `ngrok: {url: …}` for `tunnel`; only one of the
  two may stand. `provider.token` and `provider.hub_url` are second names of `provider.api_key` and `provider.url`.
- An empty section, and a key without a value, count as not written. An unknown section or key, a key that stands
  twice and a value that cannot be are refused: all at once, each with file, line and key, and exit code 2.
- `on`, `yes`, `007`, `22:00` and dates are plain text, as they look. A text that is all digits stands in quotes.
- In a variable a list is JSON, or parted by commas (schedule windows: by semicolons). An empty variable counts as
  not set. A variable that misspells a key of a section (`GHUB_PROVIDER_GATE__TRESHOLD`) is refused; other unknown
  variables do no harm.
- A file that holds a secret and can be read by others is warned of at the start: `chmod 600` it.

`ghub provider --check` prints what a provider would run with and where each value comes from, secrets hidden, and
looks for engine, GPU, hub and broker; it exits with 1 if one of them fails. `--json` prints the same as JSON.
"""

EXAMPLE_INTRO = """Settings of a GhubAi provider, all that there are; what isn't set has its default.

A line such as `#name: gpu-1` is a setting: take the # away to set it. It shows the default, or an example where
there is none. What the environment or the command line says wins over this file. `ghub provider --config FILE
--check` shows what comes of it. Made from the settings by docs/configuration.py."""

SECTION_NOTES = {
    "provider": "This machine in the grid.",
    "redis": "The broker that hubs and providers share.",
    "log": "What is told on the way, on stderr.",
    "traces": "Spans of OpenTelemetry, to a collector.",
}
"""For the sections of the file that are none in the settings."""
OPTIONS = frozenset({"host", "port", "hubs", "data_dir", "redis_url", "engine_url", "slots"})


def rows(settings: type[BaseModel], prefix: str, skip: frozenset[str]) -> Iterator[str]:
    """One table row a setting."""
    for name, field in settings.model_fields.items():
        if name not in skip:
            variable = field.validation_alias if isinstance(field.validation_alias, str) else prefix + name.upper()
            yield f"| `{variable}` | {default_of(field)} | {described(field)} |"


def provider_rows() -> Iterator[str]:
    """One table row a setting of a provider, with its key in the file."""
    for key, path in LAYOUT.items():
        field = field_at(path)
        yield f"| `{key}` | `{variable_of(path)}` | {default_of(field)} | {described(field)} |"


def default_of(field: FieldInfo) -> str:
    """The default, as one would write it."""
    if field.default_factory is not None:
        return "from the host's name"
    value = getattr(field.default, "value", field.default)
    if value in (None, PydanticUndefined, "", ()):
        return ""
    return f"`{value if isinstance(value, str) else written(value)}`"


def written(value: object) -> str:
    """A value as the file and the environment take it."""
    value = getattr(value, "value", value)
    if isinstance(value, str):
        return value if value[:1].isalnum() and not value.endswith(":") else json.dumps(value)
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def described(field: FieldInfo) -> str:
    """What it means, and its bounds."""
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    bounds = ", ".join(f"{signs[name]} {value}" for name, value in limits(field).items())
    text = " ".join((field.description or "").split())
    return " ".join(part for part in (text, f"({bounds})" if bounds else "") if part)


def page() -> str:
    """The whole page."""
    shared = frozenset(SharedSettings.model_fields)
    parts = [INTRO]
    for title, settings, prefix, skip in (
        ("Every process", SharedSettings, "GHUB_", frozenset[str]()),
        ("Hub", HubSettings, "GHUB_HUB_", shared),
    ):
        parts.append(table(title, rows(settings, prefix, skip)))
    head = "| key in the file | variable | default | |\n|---|---|---|---|\n"
    parts.append(f"## Provider\n\n{PROVIDER_INTRO}\n{head}" + "\n".join(provider_rows()))
    parts.append(table("`ghub up` beside its options", rows(UpSettings, "GHUB_UP_", OPTIONS)))
    of_all = frozenset(ProcessSettings.model_fields)
    parts.append(table("`ghub connect`", rows(ConnectSettings, "GHUB_CONNECT_", of_all)))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def table(title: str, lines: Iterator[str]) -> str:
    """A chapter with the table of a process."""
    return f"## {title}\n\n| variable | default | |\n|---|---|---|\n" + "\n".join(lines)


def example() -> str:
    """A file of a provider in which every setting stands, as a comment."""
    lines = [f"# {line}".rstrip() for line in EXAMPLE_INTRO.splitlines()]
    section = ""
    for key, path in LAYOUT.items():
        if section != key.partition(".")[0]:
            section = key.partition(".")[0]
            lines += ["", f"# {SECTION_NOTES.get(section) or about(path[0])}", f"{section}:"]
        field = field_at(path)
        lines += [*meaning(field), f"  #{key.partition('.')[2]}: {written(shown(field))}"]
    return "\n".join(lines) + "\n"


def about(section: str) -> str:
    """What a section is for."""
    return getattr(ProviderSettings.model_fields[section].annotation, "__doc__", None) or ""


def shown(field: FieldInfo) -> object:
    """The default, or an example of what has none."""
    return field.examples[0] if field.examples else field.default


def meaning(field: FieldInfo) -> list[str]:
    """What it means, as a comment; bounds are not torn apart."""
    text = re.sub(r"([>≥<≤]) ", "\\1\N{NO-BREAK SPACE}", described(field))
    lines = textwrap.wrap(text, 110, initial_indent="  # ", subsequent_indent="  # ")
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


if __name__ == "__main__":
    PAGE.write_text(page())
    EXAMPLE.write_text(example())
