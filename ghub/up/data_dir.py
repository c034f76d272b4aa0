"""The folder where a stack keeps what outlives it: the broker's file, the logs, its secrets, a lock.

<data-dir>/lock            held (flock) by the one `ghub up` that uses the folder; holds its pid
<data-dir>/signing-key      `id:secret`, readable by its owner only, as all that follow up to the folders
<data-dir>/direct-key       `id:secret`, with it hubs sign the tickets for direct calls
<data-dir>/provider-token   with it the stack's provider joins its hubs
<data-dir>/admin-token      with it `ghub key`, `ghub token`, `ghub nodes` … may ask the hubs
<data-dir>/broker-password  of the embedded broker's user `hub`
<data-dir>/broker/          the embedded broker's configuration and append-only file
<data-dir>/logs/            one log per part
"""

import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from common.errors import SettingsError
from common.signing import SigningKeys
from ghub.client.hub import TOKEN_FILE
from ghub.errors import StartRefused
from hub.access.provider_tokens import parse_tokens

LOCK_FILE = "lock"
BROKER_PASSWORD_FILE = "broker-password"  # noqa: S105 - a file's name
_MIN_CHARS = 16


class DataDir:
    """A folder that is there, is ours alone to write, and is locked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.broker = path / "broker"
        self.logs = path / "logs"
        self._metrics = path / "metrics"

    def signing_key(self) -> SecretStr:
        """Read the stack's signing key, making it the first time.

        Raises:
            StartRefused: what is there is no key.
        """
        fresh = f"{secrets.token_hex(4)}:{secrets.token_urlsafe(32)}"
        return self._secret("signing-key", fresh, SigningKeys.parse)

    def provider_token(self) -> SecretStr:
        """Read the token of the stack's provider, making it the first time.

        Raises:
            StartRefused: what is there is no token.
        """
        return self._secret("provider-token", secrets.token_urlsafe(32), parse_tokens)

    def direct_key(self) -> SecretStr:
        """Read the key that signs tickets for direct calls, making it the first time.

        Raises:
            StartRefused: what is there is no key.
        """
        fresh = f"{secrets.token_hex(4)}:{secrets.token_urlsafe(32)}"
        return self._secret("direct-key", fresh, SigningKeys.parse)

    def admin_token(self) -> SecretStr:
        """Read the operator's token, making it the first time.

        Raises:
            StartRefused: what is there is too short.
        """
        return self._secret(TOKEN_FILE, secrets.token_urlsafe(32), _one_word)

    def broker_password(self) -> SecretStr:
        """Read the password of the embedded broker's user, making it the first time; letters, digits, `-` and `_`.

        Raises:
            StartRefused: what is there is too short, or cannot stand in a URL as it is.
        """
        return self._secret(BROKER_PASSWORD_FILE, secrets.token_urlsafe(32), _one_word)

    def fresh_metrics(self) -> Path:
        """A folder in which hubs that share a port keep their figures together, with nothing of former ones."""
        shutil.rmtree(self._metrics, ignore_errors=True)
        self._metrics.mkdir(mode=0o700)
        return self._metrics

    def _secret(self, name: str, fresh: str, parse: Callable[[SecretStr], object]) -> SecretStr:
        """Read a file that only its owner may read; made with `fresh` in it where it is missing."""
        file = self.path / name
        if not file.exists():
            unfinished = self.path / f"{name}.new"
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as output:
                output.write(f"{fresh}\n")
            unfinished.replace(file)  # whole or not at all
        file.chmod(0o600)
        secret = SecretStr(file.read_text().strip())
        try:
            is_usable = bool(parse(secret))
        except SettingsError:
            is_usable = False
        if not is_usable:
            raise StartRefused(f"{file} holds no {name.replace('-', ' ')}: delete it to get a new one")
        return secret


def _one_word(secret: SecretStr) -> bool:
    return re.fullmatch(rf"[A-Za-z0-9_-]{{{_MIN_CHARS},}}", secret.get_secret_value()) is not None


@contextmanager
def locked_data_dir(path: Path) -> Iterator[DataDir]:
    """Make the folder if needed and hold it for this process.

    Raises:
        StartRefused: it cannot be made or written, others may write to it, or another `ghub up` holds it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & stat.S_IWOTH:
            raise StartRefused(f"data folder {path} can be written by everybody: choose another with --data-dir")
        data_dir = DataDir(path)
        for inner in (data_dir.broker, data_dir.logs):  # private even where the folder itself is not
            inner.mkdir(mode=0o700, exist_ok=True)
            inner.chmod(0o700)
        lock = (path / LOCK_FILE).open("a+")
    except OSError as exc:
        raise StartRefused(f"data folder {path} cannot be used: {exc.strerror or exc} (--data-dir)") from exc
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            lock.seek(0)
            holder = lock.read(20).strip() or "unknown"
            raise StartRefused(
                f"data folder {path} is in use by another ghub up (pid {holder}): stop it or choose another --data-dir"
            ) from exc
        except OSError as exc:
            raise StartRefused(f"data folder {path} cannot be locked: {exc.strerror} (--data-dir)") from exc
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield data_dir
