"""The provider as a systemd service: install it, take it away, tell how it stands.

Each function returns what it did as lines for a person, and raises a CommandError of one line where it could not.
"""

import sys
from pathlib import Path
from typing import Any

import httpx2

from ghub.errors import StartRefused
from ghub.services.machine import Machine
from ghub.services.unit import MARK, UNIT, ServiceUnit, config_of

_SHOWN = "ActiveState,SubState,ActiveEnterTimestamp,MainPID,NRestarts,Result,StatusText"
_HEALTH_TIMEOUT_S = 2.0


def install(unit: ServiceUnit, machine: Machine, *, force: bool = False, start: bool = True) -> list[str]:
    """Write the unit and, unless told not to, start it now and at every boot (of a user's: login).

    Raises:
        StartRefused: no systemd, no right to do it, a file that is not ours, or a command the service cannot reach.
        CommandError: systemd would not.
    """
    machine.check_manager()
    machine.check_rights(is_user=unit.is_user)
    if not unit.is_user:
        _check_reachable(unit.ghub, machine)
    if unit.is_user and not machine.path(unit.config).is_file():
        raise StartRefused(f"{unit.config} does not exist: write it first, or name another with --config")
    file = machine.unit_file(is_user=unit.is_user)
    try:
        if file.exists() and not force and not _is_ours(file):
            raise StartRefused(f"{file} was not made by ghub service: move it away, or overwrite it with --force")
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(".new")
        fresh.write_text(unit.render(), encoding="utf-8")
        fresh.chmod(0o644)
        fresh.replace(file)  # whole or not at all, and in place of a link, not through it
    except OSError as exc:
        raise StartRefused(f"{file} cannot be written: {exc.strerror}") from exc
    machine.order("daemon-reload", is_user=unit.is_user)
    said = [f"wrote {file}", f"settings are read from {unit.config}"]
    if not machine.path(unit.config).is_file():
        said.append("  which does not exist yet: until then defaults and the environment hold")
    if start:
        machine.order("enable", UNIT, is_user=unit.is_user)
        # It is ready when the broker knows it, which may take as long as the broker is away: do not wait here.
        machine.order("restart", "--no-block", UNIT, is_user=unit.is_user)
        said.append("enabled it and asked for its start")
    return [*said, *_next_commands(start=start, is_user=unit.is_user)]


def uninstall(machine: Machine, *, is_user: bool) -> list[str]:
    """Stop the service, which drains it, and take its unit away. Settings stay.

    Raises:
        StartRefused: it isn't installed, isn't ours, or there is no right to do it.
        CommandError: systemd would not.
    """
    machine.check_manager()
    machine.check_rights(is_user=is_user)
    file = machine.unit_file(is_user=is_user)
    if not file.exists():
        raise StartRefused(f"{file} does not exist: the service is not installed")
    if not _is_ours(file):
        raise StartRefused(f"{file} was not made by ghub service: remove it by hand")
    machine.order("disable", UNIT, is_user=is_user)
    machine.order("stop", UNIT, is_user=is_user)
    try:
        file.unlink()
    except OSError as exc:
        raise StartRefused(f"{file} cannot be removed: {exc.strerror}") from exc
    machine.order("daemon-reload", is_user=is_user)
    return ["stopped and disabled it", f"removed {file}"]


def status(machine: Machine, *, is_user: bool, health_url: str) -> dict[str, Any]:
    """Tell how the service stands: systemd's words, and the provider's own where it answers at `health_url`.

    Returns:
        unit, config, active, state, since, pid, restarts, result, status, node (None if it does not answer).

    Raises:
        StartRefused: no systemd.
        CommandError: systemd would not tell.
    """
    machine.check_manager()
    answer = machine.order("show", UNIT, f"--property={_SHOWN}", is_user=is_user)
    facts = dict(line.partition("=")[::2] for line in answer.splitlines())
    file = machine.unit_file(is_user=is_user)
    return {
        "unit": str(file) if file.exists() else None,
        "config": config_of(file.read_text(encoding="utf-8")) if file.exists() else None,
        "active": facts.get("ActiveState") == "active",
        "state": f"{facts.get('ActiveState', 'unknown')} ({facts.get('SubState', 'unknown')})",
        "since": facts.get("ActiveEnterTimestamp") or None,
        "pid": int(facts.get("MainPID") or 0) or None,
        "restarts": int(facts.get("NRestarts") or 0),
        "result": facts.get("Result") or None,
        "status": facts.get("StatusText") or None,
        "node": _node(health_url),
    }


def _node(health_url: str) -> dict[str, Any] | None:
    try:
        told = httpx2.get(health_url, timeout=_HEALTH_TIMEOUT_S, trust_env=False).json()
    except (httpx2.RequestError, ValueError):
        return None
    names = ("node", "state", "reasons", "running", "slots")
    return {name: told.get(name) for name in names} if isinstance(told, dict) else None


def _is_ours(file: Path) -> bool:
    return file.read_text(encoding="utf-8", errors="replace").startswith(MARK)


def _check_reachable(program: Path, machine: Machine) -> None:
    """The service runs as a user of its own, who must be able to come to the command."""
    for path in (program, Path(sys.prefix), Path(sys.base_prefix)):
        for step in (path.resolve(), *path.resolve().parents):
            here = machine.path(step)
            if here.is_dir() and not here.stat().st_mode & 0o001:
                raise StartRefused(
                    f"{path} lies in {step}, which other users cannot enter, so the service could not start it: "
                    "install GhubAi where all may read it, e.g. in /opt/ghubai, or use --user"
                )


def _next_commands(*, start: bool, is_user: bool) -> list[str]:
    mine = " --user" if is_user else ""
    said = [] if start else [f"start it: systemctl{mine} enable --now {UNIT}"]
    said += [f"how it stands: ghub service status{mine}", f"its log: journalctl{mine} -u {UNIT} -f"]
    if is_user:
        said.append("keep it running when you are logged out: loginctl enable-linger")
    return said
