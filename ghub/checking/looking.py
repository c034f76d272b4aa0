"""Looks at several things side by side, and how what they found is told."""

import asyncio
import textwrap
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TypeVar

import typer

from common.errors import GHubError
from ghub.checking.findings import Finding, Verdict

LIMIT_S = 10.0
"""For each look; they go side by side."""
LEAST_COLUMNS = 20

Subject = TypeVar("Subject")
Look = Callable[[Subject], Awaitable[Finding]]
_COLORS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red", Verdict.SKIP: "bright_black"}


async def look(subject: Subject, looks: Mapping[str, Look[Subject]], limit_s: float = LIMIT_S) -> dict[str, Finding]:
    """Make all looks side by side, each within the limit."""
    findings = await asyncio.gather(*(bounded(one(subject), limit_s) for one in looks.values()))
    return dict(zip(looks, findings, strict=True))


async def bounded(finding: Awaitable[Finding], limit_s: float = LIMIT_S) -> Finding:
    """What a look finds; a failure if it takes too long or cannot be made."""
    try:
        return await asyncio.wait_for(finding, limit_s)
    except TimeoutError:
        return Finding.fail(f"no answer within {limit_s:g} s")
    except (GHubError, OSError) as exc:
        return Finding.fail(str(exc) or type(exc).__name__)


def lines(findings: Mapping[str, Finding], columns: int | None = None) -> Iterator[str]:
    """Findings as lines for people, the advice below each; broken to `columns` where that is given."""
    width = max(len(name) for name in findings)
    for name, finding in findings.items():
        verdict = typer.style(f"{finding.verdict:4}", fg=_COLORS[finding.verdict])
        first, *more = _broken(finding.text, width + 8, columns)
        yield f"{verdict}  {name:{width}}  {first}"
        yield from more
        if finding.advice:
            first, *more = _broken(finding.advice, width + 11, columns)
            yield f"      {'':{width}}  -> {first}"
            yield from more


def _broken(text: str, indent: int, columns: int | None) -> list[str]:
    if columns is None or columns - indent < LEAST_COLUMNS:
        return [text]
    first, *more = textwrap.wrap(text, columns - indent, break_on_hyphens=False) or [""]
    return [first, *(" " * indent + line for line in more)]
