"""Looks at this machine: the file, the engine, the GPUs, the hours, the keys and the port."""

import asyncio
import os
import threading
from datetime import UTC, datetime
from difflib import get_close_matches

import httpx2

from common.signing import SigningKeys
from ghub import ports, probes
from ghub.checking.findings import Finding
from ghub.errors import StartRefused
from provider.config.file import VARIABLE
from provider.config.layout import KEY_OF, variable_of
from provider.config.reading import Configuration
from provider.engines.detect import open_engine
from provider.errors import EngineError
from provider.gate.attribution import chosen_gpus, missing_gpus
from provider.gate.nvml import NvmlProbe
from provider.gate.policy import resolve_unknown
from provider.gate.readings import GpuSnapshot
from provider.schedule import Schedule
from provider.settings import GateSettings, ProviderSettings

PREFIX = "GHUB_PROVIDER_"
SHOWN_MODELS = 5


async def check_file(configuration: Configuration) -> Finding:
    """Whether the file keeps its secrets, and no variable is misspelt."""
    if configuration.is_exposed:
        return Finding.warn(
            f"{configuration.file} holds a secret and can be read by others", f"chmod 600 {configuration.file}"
        )
    known = {variable_of(path) for path in KEY_OF}
    sections = {f"{PREFIX}{path[0].upper()}" for path in KEY_OF}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known | sections | {VARIABLE}:
            meant = get_close_matches(name, known, n=1)
            return Finding.warn(f"{name} is set, but is no setting", f"did you mean {meant[0]}?" if meant else "")
    return Finding.ok(str(configuration.file or "none: the environment and defaults"))


async def check_engine(configuration: Configuration) -> Finding:
    """Whether the engine is there and has models."""
    settings = configuration.settings.engine
    try:
        engine = await open_engine(settings)
    except EngineError as exc:
        return Finding.fail(str(exc), "start the engine, or say where it is with engine.url")
    try:
        status = await engine.status()
    except EngineError as exc:
        return Finding.fail(str(exc), "is the engine running, and its kind and api_key right?")
    finally:
        await engine.aclose()
    what = f"{status.kind} {status.version}".strip() + f" at {status.url}"
    if not status.models:
        return Finding.warn(f"{what}, without models", "there is no work for it before it has one")
    names = [model.id for model in status.models]
    shown = ", ".join(names[:SHOWN_MODELS]) + (", …" if len(names) > SHOWN_MODELS else "")
    return Finding.ok(f"{what}; {'1 model' if len(names) == 1 else f'{len(names)} models'}: {shown}")


async def check_gpu(configuration: Configuration) -> Finding:
    """Whether one can tell how busy the GPUs are."""
    snapshot = await _in_thread(NvmlProbe())
    gate = configuration.settings.gate
    policy = resolve_unknown(gate.unknown, has_gpu=bool(snapshot.gpus))
    if not snapshot.gpus:
        text = f"{snapshot.error or 'no GPU'}; gate.unknown is {policy}"
        is_decided = gate.unknown is not None
        return Finding.ok(text) if is_decided else Finding.warn(text, "nothing tells when the owner is at work")
    if missing := missing_gpus(snapshot, gate.gpus):
        return Finding.fail(f"gate.gpus: this machine has no GPU {', '.join(map(str, missing))}", _listed(snapshot))
    return _judged(snapshot, gate, policy)


def _judged(snapshot: GpuSnapshot, gate: GateSettings, policy: str) -> Finding:
    chosen = chosen_gpus(snapshot, gate.gpus)
    loads = [f"{gpu.name}: {'?' if gpu.utilization_pct is None else gpu.utilization_pct} %" for gpu in chosen]
    text = f"{', '.join(loads)}; driver {snapshot.driver_version}, CUDA {snapshot.cuda_version}"
    if any(gpu.utilization_pct is None for gpu in chosen):
        return Finding.warn(f"{text}; not all tell how busy they are: gate.unknown is {policy}")
    return Finding.ok(text)


def _listed(snapshot: GpuSnapshot) -> str:
    return "there are " + ", ".join(f"{gpu.index} ({gpu.name}, {gpu.uuid})" for gpu in snapshot.gpus)


async def _in_thread(probe: NvmlProbe) -> GpuSnapshot:
    """A reading in a thread that nobody waits for at the end: a driver may hang for good."""
    loop = asyncio.get_running_loop()
    reading: asyncio.Future[GpuSnapshot] = loop.create_future()

    def tell(snapshot: GpuSnapshot) -> None:
        if not reading.done():
            reading.set_result(snapshot)

    def read() -> None:
        snapshot = probe.sample()
        probe.close()
        loop.call_soon_threadsafe(tell, snapshot)

    threading.Thread(target=read, name="gpu", daemon=True).start()
    return await reading


async def check_schedule(configuration: Configuration) -> Finding:
    """Whether this machine may work now."""
    settings = configuration.settings.schedule
    if not settings.windows:
        return Finding.ok("always")
    schedule, now = Schedule.parse(settings.windows, settings.timezone), datetime.now(UTC)
    change = schedule.next_change(now)
    until = "" if change is None else f" until {change.astimezone(schedule.zone):%a %Y-%m-%d %H:%M %Z}"
    if schedule.is_open(now):
        return Finding.ok(f"open{until}")
    return Finding.warn(f"closed{until}: no work is taken now")


async def check_signing(configuration: Configuration) -> Finding:
    """Whether forged jobs are refused."""
    keys = SigningKeys.parse(configuration.settings.signing_key)
    if not keys and configuration.settings.registers:
        return Finding.ok("none is set: the hub names the keys when this provider registers")
    if not keys:
        return Finding.warn(
            "no signing key: whoever reaches the broker can have work done", "set the hubs' key here too"
        )
    return Finding.ok(f"jobs must be signed with {' or '.join(name for name, _ in keys.keys)}")


async def check_port(configuration: Configuration) -> Finding:
    """Whether this provider can listen, or does already."""
    server = configuration.settings.server
    address = ports.netloc(server.host, server.port)
    if server.port == 0:
        return Finding.ok("any free port")
    try:
        ports.check_free(server.host, server.port)
    except StartRefused as exc:
        if await _is_us(configuration.settings):
            return Finding.ok(f"{address}: this provider runs there already")
        return Finding.fail(str(exc), "or set server.port")
    return Finding.ok(f"{address} is free")


async def _is_us(settings: ProviderSettings) -> bool:
    url = ports.near_url(settings.server.host, settings.server.port)
    async with probes.http_client() as client:
        try:
            answer = await client.get(f"{url}/health")
            return bool(answer.json()["node"] == settings.name)
        except (httpx2.HTTPError, ValueError, KeyError, TypeError):
            return False
