"""Fronts (`ghub connect`) that tests start."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.call import get
from tests.support.ports import free_port
from tests.support.processes import Process, python, until


class FrontProcess:
    """One front of some hubs."""

    def __init__(self, hubs: Sequence[str], folder: Path, **env: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        env = {"GHUB_CONNECT_HUBS": ",".join(hubs), "GHUB_CONNECT_PORT": str(port), **env}
        self.process = Process("connect", python("-m", "ghub.connect"), folder / f"connect-{port}.log", env)
        until(lambda: self._answers or not self.process.is_running, 15, self.process.tail)

    @property
    def _answers(self) -> bool:
        try:
            return get(self.url, "/connect").status > 0
        except OSError:
            return False

    @property
    def standing(self) -> dict[str, Any]:
        """What it says of itself."""
        told: dict[str, Any] = get(self.url, "/connect").json
        return told

    @property
    def ready_hubs(self) -> set[str]:
        """The URLs of the hubs that it holds for well."""
        return {hub["url"] for hub in self.standing["hubs"] if hub["ready"]}
