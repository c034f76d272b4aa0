"""`ghub provider --check`: what a provider would run with, and whether everything it needs is there."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict

import typer

from common.errors import GHubError
from common.tasks import new_event_loop
from ghub.checking.effective import effective_settings, effective_yaml, sources
from ghub.checking.findings import Finding, Verdict
from ghub.checking.hub import check_broker, check_hub
from ghub.checking.machine import check_engine, check_file, check_gpu, check_port, check_schedule, check_signing
from provider.config.reading import Configuration

LIMIT_S = 10.0
"""For each look; they go side by side."""

Probe = Callable[[Configuration], Awaitable[Finding]]
PROBES: dict[str, Probe] = {
    "file": check_file,
    "engine": check_engine,
    "gpu": check_gpu,
    "schedule": check_schedule,
    "hub": check_hub,
    "broker": check_broker,
    "signing": check_signing,
    "port": check_port,
}
_COLORS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}


def run_check(configuration: Configuration, *, as_json: bool) -> int:
    """Print the effective configuration and what was found; 1 if something failed, else 0."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        if not as_json:
            typer.echo(effective_yaml(configuration))
        findings = runner.run(look(configuration, PROBES))
    if as_json:
        typer.echo(_as_json(configuration, findings))
    else:
        for line in _lines(findings):
            typer.echo(line)
    return int(any(finding.verdict is Verdict.FAIL for finding in findings.values()))


async def look(configuration: Configuration, probes: dict[str, Probe], limit_s: float = LIMIT_S) -> dict[str, Finding]:
    """Make all looks side by side, each within the limit."""
    findings = await asyncio.gather(*(_bounded(probe(configuration), limit_s) for probe in probes.values()))
    return dict(zip(probes, findings, strict=True))


async def _bounded(finding: Awaitable[Finding], limit_s: float) -> Finding:
    try:
        return await asyncio.wait_for(finding, limit_s)
    except TimeoutError:
        return Finding.fail(f"no answer within {limit_s:g} s")
    except (GHubError, OSError) as exc:
        return Finding.fail(str(exc) or type(exc).__name__)


def _lines(findings: dict[str, Finding]) -> Iterable[str]:
    width = max(len(name) for name in findings)
    for name, finding in findings.items():
        verdict = typer.style(f"{finding.verdict:4}", fg=_COLORS[finding.verdict])
        yield f"{verdict}  {name:{width}}  {finding.text}"
        if finding.advice:
            yield f"      {'':{width}}  -> {finding.advice}"


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
