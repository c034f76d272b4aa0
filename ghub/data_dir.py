"""The folder where a stack keeps what outlives it: the broker's file, the logs, its secrets, a lock.

<data-dir>/lock            held (flock) by the one `ghub up` that uses the folder; holds its pid
<data-dir>/signing-key     `id:secret`, readable by its owner only
<data-dir>/provider-token  with it the stack's provider reports to its hubs; likewise
<data-dir>/broker/         the embedded broker's configuration and append-only file
<data-dir>/logs/           one log per part
"""

import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from common.errors import SettingsError
from common.signing import SigningKeys
from ghub.errors import StartRefused
from hub.provider_tokens import parse_tokens


class DataDir:
    """A folder that is there, is ours alone to write, and is locked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.broker = path / "broker"
        self.logs = path / "logs"

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
        lock = (path / "lock").open("a+")
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
