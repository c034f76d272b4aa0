"""`ghub provider --check`: what a provider would run with, and whether everything it needs is there."""

import asyncio
import json
from dataclasses import asdict

import typer
import uvloop

from ghub.checking.effective import effective_settings, effective_yaml, sources
from ghub.checking.findings import Finding, Verdict
from ghub.checking.hub import check_broker, check_hub
from ghub.checking.looking import Look, lines, look
from ghub.checking.machine import check_engine, check_file, check_gpu, check_port, check_schedule, check_signing
from provider.config.reading import Configuration

PROBES: dict[str, Look[Configuration]] = {
    "file": check_file,
    "engine": check_engine,
    "gpu": check_gpu,
    "schedule": check_schedule,
    "hub": check_hub,
    "broker": check_broker,
    "signing": check_signing,
    "port": check_port,
}


def run_check(configuration: Configuration, *, as_json: bool) -> int:
    """Print the effective configuration and what was found; 1 if something failed, else 0."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if not as_json:
            typer.echo(effective_yaml(configuration))
        findings = runner.run(look(configuration, PROBES))
    if as_json:
        typer.echo(_as_json(configuration, findings))
    else:
        for line in lines(findings):
            typer.echo(line)
    return int(any(finding.verdict is Verdict.FAIL for finding in findings.values()))


def _as_json(configuration: Configuration, findings: dict[str, Finding]) -> str:
    return json.dumps(
        {
            "file": None if configuration.file is None else str(configuration.file),
            "settings": effective_settings(configuration),
            "sources": sources(configuration),
            "checks": [{"name": name, **asdict(finding)} for name, finding in findings.items()],
        },
        indent=2,
        ensure_ascii=False,
    )
