"""A running hub, spoken to over HTTP with the admin token.

The token is never an option's value: everybody on a machine can read the list of processes.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx2

from common.settings import is_loopback, read_settings
from ghub.admin.tables import plain
from ghub.errors import CommandError, StartRefused
from ghub.settings import UpSettings

DEFAULT_URL = "http://127.0.0.1:8080"
TIMEOUT_S = 30.0
TOKEN_FILE = "admin-token"  # noqa: S105 - a file's name
ADVICE = "set GHUB_HUB_ADMIN_TOKEN, or use --admin-token-file"


class HubUnmoved(CommandError):
    """The hub does not answer, or does not do as it is told."""


class AdminHub:
    """One hub. Every call raises HubUnmoved, in one line, if it does not go well."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    @classmethod
    def open(cls, url: str | None, token_file: Path | None) -> Self:
        """The hub that the options and the environment name.

        Args:
            url: its root; None: `GHUB_HUB_URL`, else the usual one on this machine.
            token_file: holds the admin token; None: `GHUB_HUB_ADMIN_TOKEN`, else the file of `ghub up`, which is for
                hubs on this machine only. Without any the hub is asked without a token.

        Raises:
            StartRefused: the URL is none, or the file cannot be read.
        """
        root = (url or os.environ.get("GHUB_HUB_URL") or DEFAULT_URL).rstrip("/")
        if not is_http(root):
            raise StartRefused(f"--hub-url {root}: expected http://HOST[:PORT] or https://HOST[:PORT]")
        if token_file is not None:
            return cls(root, _read(token_file))
        if token := os.environ.get("GHUB_HUB_ADMIN_TOKEN", "").strip():
            return cls(root, _checked(token, "GHUB_HUB_ADMIN_TOKEN"))
        return cls(root, _token_of_up() if is_loopback(urlsplit(root).hostname or "") else None)

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
            with httpx2.Client(timeout=TIMEOUT_S, trust_env=False, headers=self._headers) as client:
                answer = client.request(method, url, params=query, json=body)
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            raise HubUnmoved(f"no hub answers at {self.url}: {str(exc) or type(exc).__name__}") from exc
        told = _object(answer)
        if answer.is_success and told is not None:
            return told
        error = (told or {}).get("error")
        if not isinstance(error, dict):
            raise HubUnmoved(f"what answers at {self.url} is no hub (status {answer.status_code})")
        advice = f" ({ADVICE})" if answer.status_code == httpx2.codes.UNAUTHORIZED else ""
        raise HubUnmoved(f"the hub at {self.url} refuses: {plain(error.get('message'))}{advice}")


def is_http(url: str) -> bool:
    """Whether this is a URL that a hub can have."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _token_of_up() -> str | None:
    """The token that `ghub up` keeps for its hubs; None if it never ran here."""
    given = os.environ.get("GHUB_DATA_DIR")
    folder = Path(given).expanduser() if given else read_settings(UpSettings).data_dir
    try:
        is_there = (folder / TOKEN_FILE).is_file()
    except OSError:  # it is somebody else's
        return None
    return _read(folder / TOKEN_FILE) if is_there else None


def _read(file: Path) -> str:
    try:
        return _checked(file.expanduser().read_text(encoding="utf-8").strip(), str(file))
    except (OSError, UnicodeDecodeError) as exc:
        raise StartRefused(f"{file}: {getattr(exc, 'strerror', None) or 'holds no token'}") from exc


def _checked(token: str, source: str) -> str:
    """Raise StartRefused unless this can stand in a header."""
    if not token or not token.isascii() or not token.isprintable():
        raise StartRefused(f"{source} holds no token")
    return token


def _object(answer: httpx2.Response) -> dict[str, Any] | None:
    try:
        found = answer.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
