"""The folder where a stack keeps what outlives it: the broker's file, the logs, the signing key, a lock.

<data-dir>/lock          held (flock) by the one `ghub up` that uses the folder; holds its pid
<data-dir>/signing-key   `id:secret`, readable by its owner only
<data-dir>/broker/       the embedded broker's configuration and append-only file
<data-dir>/logs/         one log per part
"""

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from common.errors import SettingsError
from common.signing import SigningKeys
from ghub.errors import StartRefused


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
        file = self.path / "signing-key"
        if not file.exists():
            fresh = self.path / "signing-key.new"
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as output:
                output.write(f"{secrets.token_hex(4)}:{secrets.token_urlsafe(32)}\n")
            fresh.replace(file)  # whole or not at all
        file.chmod(0o600)
        key = SecretStr(file.read_text().strip())
        try:
            is_usable = bool(SigningKeys.parse(key))
        except SettingsError:
            is_usable = False
        if not is_usable:
            raise StartRefused(f"{file} holds no signing key: delete it to get a new one")
        return key


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
