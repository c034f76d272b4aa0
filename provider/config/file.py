"""The provider's file: which one it is, and what it says, by setting."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from common.errors import SettingsError
from provider.config.layout import KEYS, LAYOUT, SECTIONS, FieldPath, Place, nearest
from provider.config.yaml import Entry, read_yaml
from provider.settings import EngineKind

VARIABLE = "GHUB_PROVIDER_CONFIG"
FILE_NAME = "provider.yaml"
SYSTEM_FILE = Path("/etc/ghubai") / FILE_NAME
TWO_NAMES = {"ollama": "engine", "ngrok": "tunnel"}
"""Sections that are short for another one; only one of the two can be meant."""
KIND: FieldPath = ("engine", "kind")


@dataclass(slots=True)
class File:
    """What a file says."""

    path: Path
    values: dict[FieldPath, object] = field(default_factory=dict)
    places: dict[FieldPath, Place] = field(default_factory=dict)
    """Of each value."""
    mistakes: list[str] = field(default_factory=list)
    is_kind_implied: bool = False
    """Whether the engine's kind follows from the section `ollama`."""
    is_readable_by_others: bool = False


def default_places() -> tuple[Path, ...]:
    """Where a file is looked for when none is named: the user's, then the machine's."""
    return platformdirs.user_config_path("ghubai") / FILE_NAME, SYSTEM_FILE


def find_file(named: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file to read: the one that is named, else the variable's, else a default one that is there; empty: none."""
    if named is not None:
        return None if named == Path() else named.expanduser()  # an empty word has become "."
    if (said := environ.get(VARIABLE)) is not None:
        return Path(said).expanduser() if said else None
    return next((place for place in default_places() if _is_there(place)), None)


def read_file(path: Path) -> File:
    """Read a file; mistakes in what it says are in the answer, each with its place.

    Raises:
        SettingsError: it is not there or cannot be read.
    """
    file = File(path)
    try:
        with path.open("rb") as opened:
            file.is_readable_by_others = bool(stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & 0o077)
            text = opened.read().decode("utf-8-sig")
    except OSError as exc:
        raise SettingsError(f"{path}: the configuration cannot be read: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise SettingsError(f"{path}: not YAML: byte {exc.start + 1} is no UTF-8") from exc
    entries, mistakes = read_yaml(text)
    file.mistakes += [f"{path}:{one.line}: {one.text}" for one in mistakes]
    known = [entry for entry in entries if _is_known(file, entry) and entry.value is not None]
    for entry in known:
        _take(file, entry)
    for short, whole in TWO_NAMES.items():
        _refuse_both(file, known, short, whole)
    return file


def _is_there(place: Path) -> bool:
    try:
        return place.is_file()
    except OSError:  # in a folder that this user may not look into
        return False


def _is_known(file: File, entry: Entry) -> bool:
    where = f"{file.path}:{entry.line}: {entry.key}"
    if entry.section not in SECTIONS:
        message = f"{file.path}:{entry.line}: {entry.section}: no such section{_section_hint(entry)}"
        if not any(one.partition(": ")[2] == message.partition(": ")[2] for one in file.mistakes):
            file.mistakes.append(message)
        return False
    if not entry.name and entry.value is not None:
        file.mistakes.append(f"{where}: expected keys, one a line below it, found {entry.value}")
        return False
    if entry.name and entry.key not in KEYS:
        file.mistakes.append(f"{where}: no such key{_key_hint(entry)}")
        return False
    return True


def _section_hint(entry: Entry) -> str:
    homes = [key for key in LAYOUT if key.partition(".")[2] == entry.section]
    hint = nearest(entry.section, list(SECTIONS)) or (f"; did you mean {' or '.join(homes)}?" if homes else "")
    return f"{hint}; there are {', '.join(SECTIONS)}"


def _key_hint(entry: Entry) -> str:
    names = [name for section, _, name in (key.partition(".") for key in KEYS) if section == entry.section]
    homes = [key for key in LAYOUT if key.partition(".")[2] == entry.name]
    hint = nearest(entry.name, names) or (f"; did you mean {' or '.join(homes)}?" if homes else "")
    return f"{hint}; {entry.section} has {', '.join(names)}"


def _take(file: File, entry: Entry) -> None:
    path = KEYS[entry.key]
    place = Place(f"{file.path}:{entry.line}: {entry.key}", entry.line)
    if path in file.values and entry.section not in TWO_NAMES and entry.section not in TWO_NAMES.values():
        file.mistakes.append(f"{place}: the same as in line {file.places[path].line}; only one may stand")
        return
    file.values[path], file.places[path] = entry.value, place
    if entry.section == "ollama":
        file.is_kind_implied = True
        file.values.setdefault(KIND, EngineKind.OLLAMA.value)
        file.places.setdefault(KIND, Place(f"{file.path}:{entry.line}: ollama", entry.line))


def _refuse_both(file: File, entries: list[Entry], short: str, whole: str) -> None:
    lines = {entry.section: entry.line for entry in reversed(entries) if entry.section in (short, whole)}
    if len(lines) == 2:
        file.mistakes.append(f"{file.path}:{max(lines.values())}: {short} and {whole}: only one of the two may stand")
