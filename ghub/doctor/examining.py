"""Makes all looks and tells what they found."""

import asyncio
import shutil
import sys
from dataclasses import asdict

import typer
import uvloop

from common.settings import SharedSettings, read_settings
from ghub.checking.findings import Finding, Verdict
from ghub.checking.looking import Look, lines, look
from ghub.doctor.broker import look_at_broker
from ghub.doctor.hub import (
    look_at_clients,
    look_at_grid,
    look_at_hub,
    look_at_membership,
    look_at_operator,
    look_at_port,
)
from ghub.doctor.machine import (
    look_at_command,
    look_at_engine,
    look_at_folder,
    look_at_gpu,
    look_at_provider,
    look_at_settings,
    look_at_signing,
    look_at_stack,
)
from ghub.doctor.surroundings import Surroundings
from ghub.showing.tables import show_json

LOOKS: dict[str, Look[Surroundings]] = {
    "ghub": look_at_command,
    "stack": look_at_stack,
    "folder": look_at_folder,
    "hub": look_at_hub,
    "port": look_at_port,
    "operator": look_at_operator,
    "clients": look_at_clients,
    "grid": look_at_grid,
    "provider": look_at_provider,
    "settings": look_at_settings,
    "membership": look_at_membership,
    "engine": look_at_engine,
    "gpu": look_at_gpu,
    "signing": look_at_signing,
}
BROKER_LIMIT_S = 20.0
"""For its five looks, which go one after another over one connection."""


def examine(here: Surroundings, *, as_json: bool) -> int:
    """Print every finding; 1 if something failed, else 0."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        findings = runner.run(_find(here))
    failed = sum(finding.verdict is Verdict.FAIL for finding in findings.values())
    warned = sum(finding.verdict is Verdict.WARN for finding in findings.values())
    if as_json:
        checks = [{"name": name, **asdict(finding)} for name, finding in findings.items()]
        show_json({"failed": failed, "warned": warned, "checks": checks})
        return int(failed > 0)
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in lines(findings, columns):
        typer.echo(line)
    said = [f"{number} {what}" for number, what in ((failed, "failed"), (warned, "to know of")) if number]
    typer.echo(f"\n{', '.join(said)}" if said else "\nall is well")
    return int(failed > 0)


async def _find(here: Surroundings) -> dict[str, Finding]:
    prefix = read_settings(SharedSettings).prefix
    others, broker = await asyncio.gather(look(here, LOOKS), _broker(here, prefix))
    return {**others, **broker}


async def _broker(here: Surroundings, prefix: str) -> dict[str, Finding]:
    try:
        return await asyncio.wait_for(look_at_broker(here, prefix), BROKER_LIMIT_S)
    except TimeoutError:
        return {"broker": Finding.fail(f"no answer within {BROKER_LIMIT_S:g} s")}
