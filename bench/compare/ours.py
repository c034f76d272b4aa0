"""This project among the systems, as `ghub up` starts it: with keys, limits, accounting and signing."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.compare.system import NotHere, System, fetch, process, ready, wait_for
from tests.support.ports import free_port
from tests.support.processes import PROJECT, Process, python

SLOTS = 1024


@contextmanager
def ours(engine_port: int, folder: Path, providers: int = 1) -> Iterator[System]:
    """Hub, provider and durable broker. Further providers join as they would from other machines."""
    port, data = free_port(), folder / "ghub"
    url = f"http://127.0.0.1:{port}"
    argv = python("-m", "ghub", "up", "--port", str(port), "--data-dir", str(data), "--slots", str(SLOTS))
    argv += ["--engine-url", f"http://127.0.0.1:{engine_port}"]
    env = {name: str(free_port()) for name in ("GHUB_UP_BROKER_PORT", "GHUB_UP_PROVIDER_PORT")}
    env |= {name: str(2 * SLOTS) for name in ("GHUB_HUB_MAX_QUEUE", "GHUB_HUB_MAX_QUEUE_PER_KEY")}
    with ExitStack() as stack:
        up = stack.enter_context(process(argv, folder / "ghub.log", {**env, "GHUB_HUB_AUTH": "required"}))
        wait_for(lambda: bool(fetch(f"{url}/health/ready")), up)
        headers = {"authorization": f"Bearer {_key(url, data, up)}"}
        more = [stack.enter_context(_provider(nth, url, data, engine_port, folder)) for nth in range(2, providers + 1)]
        wait_for(lambda: _count_nodes(url, data) >= providers, up)
        pids = [one.pid for one in (up, *more)]
        yield ready(System("GhubAi", port, pids, headers=headers), up)


@contextmanager
def _provider(nth: int, url: str, data: Path, engine_port: int, folder: Path) -> Iterator[Process]:
    env = {
        "GHUB_PROVIDER_NAME": f"node-{nth}",
        "GHUB_PROVIDER_HUB_URL": url,
        "GHUB_PROVIDER_TOKEN": (data / "provider-token").read_text().strip(),
        "GHUB_PROVIDER_ENGINE__URL": f"http://127.0.0.1:{engine_port}",
        "GHUB_PROVIDER_SLOTS": str(SLOTS),
        "GHUB_PROVIDER_SERVER__PORT": str(free_port()),
        "GHUB_PROVIDER_GATE__GPUS": "[]",
    }
    with process(python("-m", "provider"), folder / f"provider-{nth}.log", env) as one:
        yield one


def _count_nodes(url: str, data: Path) -> int:
    token = (data / "admin-token").read_text().strip()
    told = fetch(f"{url}/api/registry", {"authorization": f"Bearer {token}"})
    return len(json.loads(told)["nodes"]) if told else 0


def _key(url: str, data: Path, stack: Process) -> str:
    """A key of a client with limits that are counted and never reached."""
    argv = python("-m", "ghub", "key", "create", "--name", "bench", "--rpm", "100000000", "--tpm", "2000000000")
    argv += ["--concurrency", "4096", "--hub-url", url, "--json"]
    env = {**os.environ, "GHUB_DATA_DIR": str(data)}
    made = subprocess.run(argv, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=60, check=False)
    if made.returncode:
        raise NotHere(f"no key: {made.stderr[-500:]}\n{stack.tail()}")
    return str(json.loads(made.stdout)["key"])
