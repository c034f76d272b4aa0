"""`ghub service`: the provider as a service of this machine."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from common.settings import NAME_PATTERN
from ghub.errors import EXIT_FAILED, StartRefused
from ghub.services import service
from ghub.services.machine import Machine
from ghub.services.unit import ServiceUnit, is_in_home

service_app = typer.Typer(help="Run the provider as a systemd service.", no_args_is_help=True)

User = Annotated[bool, typer.Option("--user", help="A service of your own, without root.")]
Config = Annotated[Path | None, typer.Option("--config", help="The provider's settings file.")]
Name = Annotated[str | None, typer.Option("--name", help="Name of this machine in the grid.")]


@service_app.command("print")
def print_unit(*, user: User = False, config: Config = None, name: Name = None) -> None:
    """Show the unit that `install` would write."""
    typer.echo(_unit(user=user, config=config, name=name).render(), nl=False)


@service_app.command()
def install(
    *,
    user: User = False,
    config: Config = None,
    name: Name = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a unit that is not ours.")] = False,
    no_start: Annotated[bool, typer.Option("--no-start", help="Only write the unit.")] = False,
) -> None:
    """Write the unit, enable it and start it."""
    unit = _unit(user=user, config=config, name=name)
    typer.echo("\n".join(service.install(unit, Machine(), force=force, start=not no_start)))


@service_app.command()
def uninstall(*, user: User = False) -> None:
    """Stop the service and remove its unit; settings stay."""
    typer.echo("\n".join(service.uninstall(Machine(), is_user=user)))


@service_app.command()
def status(
    *,
    user: User = False,
    port: Annotated[int, typer.Option(help="The provider's own port.", min=1, max=65535)] = 8081,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show how the service and its node stand; exit status 1 if it does not run."""
    facts = service.status(Machine(), is_user=user, health_url=f"http://127.0.0.1:{port}/health")
    typer.echo(json.dumps(facts, indent=2) if as_json else "\n".join(shown(facts)))
    if not facts["active"]:
        raise typer.Exit(EXIT_FAILED)


def shown(facts: dict[str, Any]) -> list[str]:
    """The facts of a status, a line each."""
    node = facts["node"]
    said = "does not answer" if node is None else f"{node['node']}: {node['state']}"
    if node is not None and node["reasons"]:
        said += f" ({', '.join(node['reasons'])})"
    if node is not None and node["slots"] is not None:
        said += f", {node['running']} of {node['slots']} slots in use"
    rows = {name: facts[name] for name in ("unit", "config", "state", "since", "pid", "restarts", "status")}
    return [f"{name:<9} {'-' if value is None else value}" for name, value in {**rows, "node": said}.items()]


def _unit(*, user: bool, config: Path | None, name: str | None) -> ServiceUnit:
    if name is not None and not re.fullmatch(NAME_PATTERN, name):
        raise StartRefused("--name: letters, digits, '.', '_' and '-', at most 64, the first a letter or digit")
    given = Machine().config(is_user=user) if config is None else config.expanduser().absolute()
    program = _program()
    for path in (given, program):
        if not str(path).isprintable():
            raise StartRefused(f"{str(path)!r} cannot stand in a unit file: choose a path of printable characters")
    if set(str(program)) & set("\"'\\"):
        raise StartRefused(f"systemd starts no program whose path has quotes or backslashes in it: {program}")
    places = (program, Path(sys.prefix), Path(sys.base_prefix))
    return ServiceUnit(program, given, name, is_user=user, reads_home=any(map(is_in_home, places)))


def _program() -> Path:
    """The `ghub` command of this installation, or else the first on PATH."""
    beside = Path(sys.executable).with_name("ghub")
    found = str(beside) if beside.is_file() else shutil.which("ghub")
    if found is None:
        raise StartRefused("the ghub command is not on PATH: install GhubAi first")
    return Path(found).absolute()
