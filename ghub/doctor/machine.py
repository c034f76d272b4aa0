"""Looks at this machine: the stack, its folder, the provider and what that needs."""

import os
import platform
import shutil
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from common import __version__
from common.reasons import short_words_of
from ghub import probes
from ghub.checking.findings import Finding, Verdict
from ghub.checking.machine import check_engine, check_file, check_gpu, check_signing
from ghub.doctor.surroundings import Surroundings
from ghub.showing.printable import printable

GIB = 2**30
LITTLE_BYTES, TOO_LITTLE_BYTES = 2 * GIB, GIB // 4
"""The embedded broker's log is rewritten from 256 MiB on, beside the former one, and logs of parts take 16 MiB each."""


async def look_at_command(_: Surroundings) -> Finding:
    """Which this is."""
    system = f"{platform.system()} {platform.machine()}"
    return Finding.ok(f"ghub {__version__}, Python {platform.python_version()}, {system}")


async def look_at_stack(here: Surroundings) -> Finding:
    """Whether `ghub up` runs."""
    if here.up is not None:
        return Finding.ok(f"ghub up runs (pid {here.up.pid}) on {here.data_dir}")
    if here.is_provider_wanted or here.hub_source:
        return Finding.skip(f"no ghub up runs on {here.data_dir}")
    return Finding.skip(f"no ghub up runs on {here.data_dir}: `ghub up` starts all that one machine needs")


async def look_at_folder(here: Surroundings) -> Finding:
    """Whether what outlives the stack has room and is private."""
    folder = here.data_dir
    if not folder.exists():
        free = shutil.disk_usage(_nearest(folder)).free
        return Finding.skip(f"{folder} is not there yet; {free / GIB:.1f} GiB are free where it would be")
    status = folder.stat()
    if status.st_mode & stat.S_IWOTH:
        return Finding.fail(f"{folder} can be written by everybody", f"chmod o-w {folder}")
    if not os.access(folder, os.W_OK):
        return Finding.skip(f"{folder} is somebody else's")
    free = shutil.disk_usage(folder).free
    text = f"{folder}: {free / GIB:.1f} GiB free"
    if free < TOO_LITTLE_BYTES:
        return Finding.fail(text, "the broker stops when it cannot write its log: make room")
    if free < LITTLE_BYTES:
        return Finding.warn(text, "make room, or choose another folder with --data-dir")
    return Finding.ok(text)


def _nearest(folder: Path) -> Path:
    """The first folder above that is there."""
    return next(parent for parent in folder.parents if parent.exists())


async def look_at_provider(here: Surroundings) -> Finding:
    """Whether the provider on this machine works, and if not, why."""
    if here.configuration is None and here.up is None:
        return Finding.fail("it cannot start with its settings", "see settings below")
    try:
        async with probes.http_client() as client:
            told: Any = (await client.get(f"{here.provider_url}/health")).json()
        node, state, reasons = told["node"], told["state"], [*told["reasons"]]
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError) as exc:
        if not here.is_provider_wanted:
            return Finding.skip("no provider here")
        why = printable(str(exc)) if isinstance(exc, httpx2.HTTPError) else "what answers is no provider"
        return Finding.fail(
            f"no provider answers at {here.provider_url}: {why}", "run `ghub provider` or `ghub service install`"
        )
    text = f"{printable(str(node))} at {here.provider_url} is {printable(str(state))}"
    if reasons:
        text += f": {', '.join(short_words_of(printable(str(reason))) for reason in reasons)}"
    if not told.get("in_grid", True):
        return Finding.fail(f"{text}; it is not in the grid", "is its broker there, and its token good?")
    return (
        Finding.ok(text)
        if state in ("idle", "busy")
        else Finding.warn(text, f"`ghub why {node}` tells what would help")
    )


async def look_at_settings(here: Surroundings) -> Finding:
    """Whether the provider's settings can work, and keep their secrets."""
    if here.configuration is None:
        return Finding.fail("; ".join(here.mistakes.splitlines()), "docs/configuration.md tells every setting")
    if not here.is_provider_wanted or here.up is not None:
        return Finding.skip("no provider here that is set up by itself")
    return await check_file(here.configuration)


async def look_at_engine(here: Surroundings) -> Finding:
    """Whether an engine is there and has models."""
    if here.configuration is None:
        return Finding.skip("no telling where it would be: see settings")
    found = await check_engine(here.configuration)
    if found.verdict is Verdict.FAIL and not here.is_provider_wanted:
        return Finding.skip("no engine here: only a provider's machine needs one")
    return found


async def look_at_gpu(here: Surroundings) -> Finding:
    """Whether one can tell how busy the GPUs are."""
    if here.up is not None and not here.up.uses_gpus:
        return Finding.skip("the built-in engine uses none")
    if here.configuration is None:
        return Finding.skip("no telling which would be looked at: see settings")
    found = await check_gpu(here.configuration)
    if found.verdict is not Verdict.OK and not here.is_provider_wanted:
        return Finding.skip(f"none is needed here ({found.text.partition(';')[0]})")
    return found


async def look_at_signing(here: Surroundings) -> Finding:
    """Whether forged jobs are refused."""
    if here.up is not None:
        return Finding.ok(f"jobs are signed with the key in {here.data_dir}")
    if here.configuration is None:
        return Finding.skip("see settings")
    found = await check_signing(here.configuration)
    if found.verdict is not Verdict.OK and not here.is_provider_wanted:
        return Finding.skip("no GHUB_SIGNING_KEY is set here; hubs and providers of a grid share one")
    return replace(found, advice="set GHUB_SIGNING_KEY, the same at hubs and providers") if found.advice else found
