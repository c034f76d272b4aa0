"""The machine that a service is installed on: its folders, and its service manager."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ghub.errors import CommandError, StartRefused
from ghub.services.unit import DEFAULT_CONFIG, UNIT

_SYSTEMCTL_TIMEOUT_S = 120
"""Longer than the unit's TimeoutStopSec: stopping it waits for its drain."""


def _systemctl(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = ["systemctl", *arguments]  # where PATH has it
    return subprocess.run(command, capture_output=True, text=True, timeout=_SYSTEMCTL_TIMEOUT_S, check=False)  # noqa: S603


@dataclass(frozen=True, slots=True)
class Machine:
    """What of a machine a service touches."""

    root: Path = Path("/")
    """Where its file system begins."""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    platform: str = sys.platform
    is_root: bool = field(default_factory=lambda: os.geteuid() == 0)
    systemctl: Callable[[Sequence[str]], subprocess.CompletedProcess[str]] = _systemctl

    def path(self, absolute: Path) -> Path:
        """Where an absolute path of that machine is."""
        return self.root / absolute.relative_to("/")

    def settings_folder(self) -> Path:
        """A user's folder for settings."""
        home = Path(self.environment.get("HOME") or Path.home())
        return Path(self.environment.get("XDG_CONFIG_HOME") or home / ".config")

    def config(self, *, is_user: bool) -> Path:
        """Where a provider's settings are if nobody says."""
        return self.settings_folder() / "ghubai" / DEFAULT_CONFIG.name if is_user else DEFAULT_CONFIG

    def unit_file(self, *, is_user: bool) -> Path:
        """Where the unit file lies."""
        folder = self.settings_folder() / "systemd/user" if is_user else Path("/etc/systemd/system")
        return self.path(folder / f"{UNIT}.service")

    def check_manager(self) -> None:
        """Make sure that systemd runs here.

        Raises:
            StartRefused: it does not.
        """
        if self.platform == "darwin":
            raise StartRefused("services are made for systemd only, launchd is not supported yet: run ghub provider")
        if not self.path(Path("/run/systemd/system")).is_dir():
            raise StartRefused("systemd does not run on this machine: see ghub service print for what it would be told")

    def check_rights(self, *, is_user: bool) -> None:
        """Make sure that services may be changed.

        Raises:
            StartRefused: only root may.
        """
        if not is_user and not self.is_root:
            raise StartRefused(
                "only root may change the machine's services: use sudo, or --user for a service of your own"
            )

    def order(self, *words: str, is_user: bool) -> str:
        """Give systemctl an order; what it says.

        Raises:
            CommandError: it failed, hangs or is missing.
        """
        command = [*(["--user"] if is_user else []), *words]
        try:
            answer = self.systemctl(command)
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise CommandError(f"systemctl {' '.join(command)}: {exc}") from exc
        if answer.returncode != 0:
            why = " ".join(answer.stderr.split()) or f"exit status {answer.returncode}"
            raise CommandError(f"systemctl {' '.join(command)} failed: {why}")
        return answer.stdout
