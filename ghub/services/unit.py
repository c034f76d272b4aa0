"""The text of the provider's systemd unit: a template of this package, and the paths of this installation in it."""

import shlex
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

UNIT = "ghub-provider"
"""What the service is called; one provider a machine."""
MARK = '# Made by "ghub service"'
"""How a unit file of ours begins."""
DEFAULT_CONFIG = Path("/etc/ghubai/provider.yaml")
"""Where a machine's provider has its settings."""

_SHOWN_CONFIG = "# Configuration: "
_HOMES = ("/home", "/root", "/run/user")
"""What ProtectHome= hides."""


@dataclass(frozen=True, slots=True)
class ServiceUnit:
    """What a unit says about one installation. Paths are absolute."""

    ghub: Path
    """The `ghub` command."""
    config: Path
    """The provider's settings file; a machine's unit runs without it, a user's does not."""
    node: str | None = None
    """The node's name; None: from the settings."""
    is_user: bool = False
    """Whether it is for a user's own service manager, which has fewer ways to lock a process in."""
    reads_home: bool = False
    """Whether a part of the installation lies where people have their homes, which the service can then not hide."""

    def render(self) -> str:
        """Return the unit file's text."""
        template = f"{UNIT}.user.service" if self.is_user else f"{UNIT}.service"
        text = files("ghub.services").joinpath("templates", template).read_text(encoding="utf-8")
        for placeholder, value in self._values().items():
            text = text.replace(placeholder, value)
        return text

    def _values(self) -> dict[str, str]:
        # A machine's manager reads the file as root and hands it over: the service's own user could not.
        config = quoted(str(self.config)) if self.is_user else "${CREDENTIALS_DIRECTORY}/provider.yaml"
        command = [quoted(str(self.ghub), is_program=True), "provider", "--config", config]
        command += ["--name", quoted(self.node)] if self.node is not None else []
        return {
            "@NAME@": UNIT,
            "@EXEC_START@": " ".join(command),
            "@SHOWN_CONFIG@": str(self.config),
            "@CONFIG@": str(self.config).replace("%", "%%"),
            "@PROTECT_HOME@": "read-only" if self.reads_home else "yes",
        }


def quoted(word: str, *, is_program: bool = False) -> str:
    """A word of a command line as systemd.service(5) wants it; variables are not looked for in the program's path."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    if not is_program:
        word = word.replace("$", "$$")
    # Every other character that a shell would mind is safe within double quotes.
    return word if shlex.quote(word) == word else f'"{word}"'


def is_in_home(path: Path) -> bool:
    """Whether ProtectHome= would hide it."""
    return any(one.is_relative_to(home) for one in (path, path.resolve()) for home in _HOMES)


def config_of(text: str) -> str | None:
    """The settings file that a unit of ours names; None if there is none."""
    lines = (line for line in text.splitlines() if line.startswith(_SHOWN_CONFIG))
    return next((line.removeprefix(_SHOWN_CONFIG) for line in lines), None)
