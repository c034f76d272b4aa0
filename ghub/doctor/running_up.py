"""A `ghub up` that runs on this machine, as its own processes tell it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ghub import ports
from ghub.up.data_dir import LOCK_FILE


@dataclass(frozen=True, slots=True)
class RunningUp:
    """Its process, and the surroundings of its parts; empty where they are not ours to read."""

    pid: int
    hub: Mapping[str, str] = field(default_factory=dict, repr=False)
    provider: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def hub_url(self) -> str | None:
        """Where this machine reaches its hubs."""
        if not (port := self.hub.get("GHUB_HUB_PORT")):
            return None
        return ports.near_url(self.hub.get("GHUB_HUB_HOST", "127.0.0.1"), int(port))

    @property
    def broker_url(self) -> str | None:
        """With its password."""
        return self.hub.get("GHUB_REDIS_URL")

    @property
    def provider_url(self) -> str | None:
        """Where its provider listens."""
        port = self.provider.get("GHUB_PROVIDER_SERVER__PORT")
        return f"http://127.0.0.1:{port}" if port else None

    @property
    def engine_url(self) -> str | None:
        """Where its engine is."""
        return self.provider.get("GHUB_PROVIDER_ENGINE__URL")

    @property
    def uses_gpus(self) -> bool:
        """Whether its provider looks at GPUs: with the built-in engine it does not."""
        return self.provider.get("GHUB_PROVIDER_GATE__GPUS") != "[]"


def find_up(data_dir: Path) -> RunningUp | None:
    """The `ghub up` that holds a data folder; None if none runs."""
    try:
        pid = int((data_dir / LOCK_FILE).read_text().strip())
        process = psutil.Process(pid)
        words = process.cmdline()
    except (OSError, ValueError, psutil.Error):
        return None
    if "up" not in words or not any("ghub" in word for word in words):
        return None  # the number is another program's by now
    found: dict[str, Mapping[str, str]] = {}
    try:
        for child in process.children():
            found.setdefault(_module(child), _environment(child))
    except psutil.Error:
        pass
    return RunningUp(pid, found.get("hub", {}), found.get("provider", {}))


def _module(process: psutil.Process) -> str:
    try:
        words = process.cmdline()
        return words[words.index("-m") + 1]
    except (psutil.Error, ValueError, IndexError):
        return ""


def _environment(process: psutil.Process) -> Mapping[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}
