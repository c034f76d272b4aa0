"""The operator of a grid in tests: speaks to hubs with the admin token, over HTTP or by the command line."""

import os
import subprocess
from pathlib import Path
from typing import Any

from tests.support.call import Answer, Call
from tests.support.processes import python, run_to_end

ADMIN_TOKEN = "admin-token-of-the-tests"
ADMIN = {"GHUB_HUB_ADMIN_TOKEN": ADMIN_TOKEN, "GHUB_HUB_ADMIN_LOOPBACK": "off"}
"""Environment of a hub that has an operator, who shows the token even on this machine."""


def ask(hub: str, method: str, path: str, body: Any = None, *, token: str | None = ADMIN_TOKEN) -> Answer:
    """Call a hub as its operator, or as somebody with another token."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return Call(hub, body, path=path, method=method, headers=headers).finish()


def told(hub: str, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
    """The same, answered as it should be."""
    answer = ask(hub, method, path, body)
    assert answer.status == status, answer.text
    return answer.json


def ghub(*words: str, said: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end, with nothing of whoever runs the tests in its environment.

    `said` is what stands on its standard input.
    """
    return run_to_end(python("-m", "ghub", *words), surroundings(**env), said=said)


def surroundings(**env: str) -> dict[str, str]:
    """The environment of a command, with nothing in it of whoever runs the tests."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("GHUB_", "OPENAI_"))}
    return {**mine, "GHUB_DATA_DIR": str(Path(os.devnull) / "none"), **env}
