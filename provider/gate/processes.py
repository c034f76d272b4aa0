"""The engine's processes on this machine, so that their GPU use can be told from others'.

Runs in the thread that reads the GPUs, every few seconds: one walk over the process table and one over the sockets.
"""

import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from urllib.parse import urlsplit

import psutil

ENGINES = frozenset(
    {"ollama", "ollama_llama_server", "llama-server", "llamafile", "vllm", "lms", "llmster", "lm studio"}
)
"""What common engines call their processes. A service that runs as a user of its own hides its sockets from others; its
name can be seen by all."""

GO_BETWEENS = frozenset(
    {"init", "systemd", "launchd", "docker-proxy", "rootlesskit", "rootlessport", "conmon", "gvproxy", "pasta"}
    | {"slirp4netns", "com.docker.backend", "ssh", "sshd", "socat", "nginx", "haproxy", "caddy", "traefik"}
)
"""What listens on behalf of others: the engine isn't among its descendants, or (init) everything is."""

INITIAL_PID_NAMESPACE = 0xEFFFFFFC
"""The inode that Linux gives the first namespace of pids, always: PROC_PID_INIT_INO in its proc_ns.h."""

_LISTEN = "0A"
"""A listening socket's state in /proc/net/tcp."""


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Listeners:
    """Who listens at an address; `hidden`: somebody does whom we may not see."""

    pids: frozenset[int]
    is_hidden: bool


def own_pids(url: str, names: Sequence[str]) -> frozenset[int] | None:
    """Find the engine's processes: who listens at its URL, what is called so, and all that these started.

    Where the listener can't be seen (it belongs to another user) or only stands in for the engine (the proxy of a
    container), processes that are called as common engines are taken: those of the listening user if there are any.

    Args:
        url: The engine's root. At an address of another machine nobody here listens: then only `names` count.
        names: Further processes that are the engine's, by name or by the file name of what they run, in any case.

    Returns:
        Pids, at least one; None: the engine's processes can't be told from others.
    """
    if is_pid_namespaced():
        return None
    table = _processes()
    roots = _called(table, frozenset(name.casefold() for name in names))
    host, port = _address(url)
    if port is not None and _is_local(host):
        roots |= _engine(table, host, port)
    return _with_descendants(table, roots) or None


def is_pid_namespaced() -> bool:
    """Whether this process has pids of its own, as in a container that doesn't share its host's.

    NVML gives the host's pids for the samples of use, also in there, where they mean nothing or, worse, another
    process. Only Linux has such; where it doesn't tell, the answer is no.
    """
    try:
        return Path("/proc/self/ns/pid").stat().st_ino != INITIAL_PID_NAMESPACE
    except OSError:
        return False


def _processes() -> dict[int, _Process]:
    """All that can be seen, by pid. A value that is denied is None, a process that vanishes meanwhile is left out."""
    table: dict[int, _Process] = {}
    for process in psutil.process_iter(["ppid", "name", "cmdline"]):
        command = process.info["cmdline"] or [""]
        names = {(process.info["name"] or "").casefold(), command[0].rsplit("/", 1)[-1].casefold()}
        names |= {name.partition("::")[0] for name in names}
        table[process.pid] = _Process(process.info["ppid"] or 0, frozenset(names - {""}))
    return table


def _called(table: Mapping[int, _Process], names: frozenset[str]) -> frozenset[int]:
    return frozenset(pid for pid, process in table.items() if process.names & names)


def _engine(table: Mapping[int, _Process], host: str, port: int) -> frozenset[int]:
    listeners = _listeners(host, port)
    found = listeners.pids & table.keys() - _called(table, GO_BETWEENS)
    if found:
        return found
    named = _called(table, ENGINES)
    users = _listening_users(port) if listeners.is_hidden else frozenset()
    return frozenset(pid for pid in named if _user(pid) in users) or named


def _with_descendants(table: Mapping[int, _Process], roots: Iterable[int]) -> frozenset[int]:
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.parent, []).append(pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, ())
    return frozenset(found)


def _address(url: str) -> tuple[str, int | None]:
    """Host and port of a URL; no port if it can't be read."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return "", None


def _is_local(host: str) -> bool:
    """Whether it is this machine, as far as that shows without asking a name server, which may take its time."""
    address = _ip(host)
    if address is None:
        return host == "localhost" or host.endswith(".localhost") or host == socket.gethostname().casefold()
    if address.is_loopback or address.is_unspecified:
        return True
    ours = (_ip(one.address) for several in psutil.net_if_addrs().values() for one in several)
    return address in ours


def _ip(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _listeners(host: str, port: int) -> _Listeners:
    try:
        sockets = psutil.net_connections("tcp")
    except (psutil.Error, OSError):  # macOS shows sockets to root alone
        return _Listeners(frozenset(), is_hidden=True)
    target = _ip(host)
    pids = {
        one.pid
        for one in sockets
        if one.status == psutil.CONN_LISTEN
        and one.laddr
        and one.laddr.port == port
        and _is_reached(_ip(one.laddr.ip), target)
    }
    return _Listeners(frozenset(pid for pid in pids if pid is not None), is_hidden=None in pids)


def _is_reached(listening: IPv4Address | IPv6Address | None, target: IPv4Address | IPv6Address | None) -> bool:
    """Whether who calls the target gets to that socket. A target without an address is a name of this machine."""
    if listening is None or listening.is_unspecified or listening == target:
        return True
    return listening.is_loopback and (target is None or target.is_unspecified)


def _listening_users(port: int) -> frozenset[int]:
    """Who owns the sockets that listen at a port; Linux shows that to all. Empty where it can't be told."""
    users: set[int] = set()
    for name in ("tcp", "tcp6") if sys.platform == "linux" else ():
        try:
            lines = Path("/proc/net", name).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                users.add(int(fields[7]))
    return frozenset(users)


def _user(pid: int) -> int | None:
    try:
        return psutil.Process(pid).uids().effective
    except (psutil.Error, OSError):
        return None
