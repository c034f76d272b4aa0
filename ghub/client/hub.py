"""A running hub, spoken to over HTTP with the admin token.

The token is never an option's value: everybody on a machine can read the list of processes.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx2

from common.addresses import is_loopback
from common.settings import read_settings
from ghub.client.answers import json_object, refusal
from ghub.client.secret_files import read_file, read_secret
from ghub.errors import CommandError, StartRefused
from ghub.settings import UpSettings

DEFAULT_URL = "http://127.0.0.1:8080"
TIMEOUT_S = 30.0
TOKEN_FILE = "admin-token"  # noqa: S105 - a file's name
TOKEN_VARIABLE = "GHUB_HUB_ADMIN_TOKEN"  # noqa: S105 - a variable's name
ADVICE = f"set {TOKEN_VARIABLE}, or use --admin-token-file"


class HubUnmoved(CommandError):
    """The hub does not answer, or does not do as it is told. `status` is that of its answer, 0 without one."""

    def __init__(self, text: str, *, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class AdminHub:
    """One hub. Every call raises HubUnmoved, in one line, if it does not go well."""

    def __init__(self, url: str, token: str | None, *, timeout_s: float = TIMEOUT_S) -> None:
        self.url = url
        self.headers = {"authorization": f"Bearer {token}"} if token else {}
        self._timeout_s = timeout_s

    @classmethod
    def open(cls, url: str | None, token_file: Path | None, *, timeout_s: float = TIMEOUT_S) -> Self:
        """The hub that the options and the environment name.

        Args:
            url: its root; None: `GHUB_HUB_URL`, else the usual one on this machine.
            token_file: holds the admin token; None: `GHUB_HUB_ADMIN_TOKEN`, else the file of `ghub up`, which is for
                hubs on this machine only. Without any the hub is asked without a token.
            timeout_s: how long each call waits for the hub.

        Raises:
            StartRefused: the URL is none, or the file cannot be read.
        """
        root = hub_root(url)
        token = read_secret("token", token_file, [TOKEN_VARIABLE])
        if token is None and is_loopback(urlsplit(root).hostname or ""):
            token = token_of_up()
        return cls(root, token, timeout_s=timeout_s)

    def get(self, *path: str, **query: str | int | None) -> dict[str, Any]:
        """What stands under a path, given in parts."""
        return self._call("GET", path, query={name: value for name, value in query.items() if value is not None})

    def post(self, *path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Order something, or make something."""
        return self._call("POST", path, body=body)

    def delete(self, *path: str) -> dict[str, Any]:
        """Have something end."""
        return self._call("DELETE", path)

    def _call(
        self,
        method: str,
        path: tuple[str, ...],
        query: Mapping[str, str | int] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        url = "/".join([self.url, "api", *(quote(part, safe="") for part in path)])
        try:
            with httpx2.Client(timeout=self._timeout_s, trust_env=False, headers=self.headers) as client:
                answer = client.request(method, url, params=query, json=body)
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            raise HubUnmoved(f"no hub answers at {self.url}: {str(exc) or type(exc).__name__}") from exc
        told = json_object(answer)
        if answer.is_success and told is not None:
            return told
        raise self.refusal(answer)

    def refusal(self, answer: httpx2.Response) -> HubUnmoved:
        """What to say of an answer, read to its end, that is none."""
        error = refusal(answer)
        if error is None:
            text = f"what answers at {self.url} is no hub (status {answer.status_code})"
            return HubUnmoved(text, status=answer.status_code)
        advice = f" ({ADVICE})" if answer.status_code == httpx2.codes.UNAUTHORIZED else ""
        return HubUnmoved(f"the hub at {self.url} refuses: {error.message}{advice}", status=answer.status_code)


def hub_root(url: str | None) -> str:
    """The root of the hub that an option or the environment names, else of the usual one on this machine.

    Raises:
        StartRefused: it is no URL of a hub.
    """
    root = (url or os.environ.get("GHUB_HUB_URL") or DEFAULT_URL).rstrip("/")
    if not is_http(root):
        raise StartRefused(f"--hub-url {root}: expected http://HOST[:PORT] or https://HOST[:PORT]")
    return root


def is_http(url: str) -> bool:
    """Whether this is a URL that a hub can have."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def token_of_up() -> str | None:
    """The token that `ghub up` keeps for its hubs; None if it never ran here."""
    file = data_dir_of_up() / TOKEN_FILE
    try:
        is_there = file.is_file()
    except OSError:  # it is somebody else's
        return None
    return read_file("token", file) if is_there else None


def data_dir_of_up() -> Path:
    """The folder where `ghub up` keeps what outlives it, unless it was told another."""
    given = os.environ.get("GHUB_DATA_DIR")
    return Path(given).expanduser() if given else read_settings(UpSettings).data_dir
