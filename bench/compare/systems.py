"""The systems that are compared, each started as its own documentation says, in front of the same engine.

Peers come from the package registries: nginx from the system, LiteLLM and vllm-router by `uvx`, Portkey by `npm`. One
that cannot be had is left out, and the reason is told.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.compare.wire import MODEL, question

PROJECT = Path(__file__).resolve().parents[2]
LITELLM = "litellm[proxy]==1.106.2"
VLLM_ROUTER = "vllm-router==0.1.17"
PORTKEY = {
    "dependencies": {"@portkey-ai/gateway": "1.15.2"},
    "overrides": {"@hono/node-server": "1.13.8"},  # with the newest it answers every stream with 500
}
START_LIMIT_S = 180
SLOTS = 1024
OUR_PARTS = {"hub": "hub", "provider": "provider", "ghub": "supervisor"}
"""What a process of ours is, by its module."""


class NotHere(Exception):
    """This system cannot be had or does not start; says why."""


@dataclass
class System:
    """One that runs."""

    name: str
    port: int
    pids: Sequence[int]
    path: str = "/v1/chat/completions"
    headers: Mapping[str, str] = field(default_factory=dict)


Opening = Callable[[int, Path], Iterator[System]]
"""Starts a system in front of the engine on a port, with a folder for its files; ends it when the iterator goes on."""


def direct(engine_port: int, _: Path) -> Iterator[System]:
    """No gateway."""
    yield System("direct", engine_port, ())


def nginx(engine_port: int, folder: Path) -> Iterator[System]:
    """A plain reverse proxy: what any hop over HTTP costs."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise NotHere("no nginx on PATH (apt-get install nginx-light)")
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        f"""daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log; worker_processes 2;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  upstream engine {{ server 127.0.0.1:{engine_port}; keepalive 2048; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
    )
    with _process([program, "-c", str(config), "-p", str(folder)], folder / "nginx.log") as pid:
        yield _ready(System("nginx", port, (pid,)), folder / "nginx.log")


def litellm(engine_port: int, folder: Path) -> Iterator[System]:
    """LiteLLM's proxy with one model, without a database or keys."""
    port = free_port()
    config = folder / "litellm.yaml"
    parameters = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{engine_port}/v1", "api_key": "none"}
    config.write_text(json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": parameters}]}))
    argv = [*_uvx(LITELLM), "litellm", "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "LITELLM_LOG": "ERROR"}
    env["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"
    with _process(argv, folder / "litellm.log", env) as pid:
        yield _ready(System("LiteLLM", port, (pid,)), folder / "litellm.log")


def vllm_router(engine_port: int, folder: Path) -> Iterator[System]:
    """vLLM's router, in Rust."""
    port, metrics = free_port(), free_port()
    argv = [*_uvx(VLLM_ROUTER), "vllm-router", "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--worker-urls", f"http://127.0.0.1:{engine_port}", "--policy", "round_robin"]
    argv += ["--prometheus-port", str(metrics), "--prometheus-host", "127.0.0.1", "--log-level", "warning"]
    with _process(argv, folder / "vllm-router.log") as pid:
        yield _ready(System("vllm-router", port, (pid,)), folder / "vllm-router.log")


def portkey(engine_port: int, folder: Path) -> Iterator[System]:
    """Portkey's gateway, in Node."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        raise NotHere("no npm and node on PATH")
    home = _cache() / "portkey"
    server = home / "node_modules/@portkey-ai/gateway/build/start-server.js"
    if not server.exists():
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").write_text(json.dumps(PORTKEY))
        argv = [npm, "install", "--silent", "--no-audit", "--no-fund"]
        if subprocess.run(argv, cwd=home, stdin=subprocess.DEVNULL, timeout=600, check=False).returncode:
            raise NotHere("npm does not install it")
    port = free_port()
    headers = {
        "authorization": "Bearer none",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{engine_port}/v1",
    }
    argv = [node, str(server), f"--port={port}", "--headless"]
    env = {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost", "NODE_ENV": "production"}
    with _process(argv, folder / "portkey.log", env) as pid:
        yield _ready(System("Portkey", port, (pid,), headers=headers), folder / "portkey.log")


def ours(engine_port: int, folder: Path, hubs: int = 1, providers: int = 1) -> Iterator[System]:
    """This project as `ghub up` starts it: hub, provider and durable broker, with keys, limits, accounting, signing.

    Further providers join as they would from other machines.
    """
    port = free_port()
    url, data = f"http://127.0.0.1:{port}", folder / f"ghub-{hubs}"
    argv = [sys.executable, "-m", "ghub", "up", "--port", str(port), "--hubs", str(hubs), "--data-dir", str(data)]
    argv += ["--engine-url", f"http://127.0.0.1:{engine_port}", "--slots", str(SLOTS)]
    ports = {name: str(free_port()) for name in ("GHUB_UP_BROKER_PORT", "GHUB_UP_PROVIDER_PORT")}
    queues = {"GHUB_HUB_MAX_QUEUE": str(2 * SLOTS), "GHUB_HUB_MAX_QUEUE_PER_KEY": str(2 * SLOTS)}
    env = {**ports, "GHUB_HUB_AUTH": "required", **queues}
    log = folder / f"ghub-{hubs}.log"
    with _process(argv, log, env) as pid:
        _until(lambda: _answers(f"{url}/health/ready"), log)
        headers = {"authorization": f"Bearer {_key(url, data, log)}"}
        with ExitStack() as stack:
            more = [
                stack.enter_context(_provider(nth, url, data, engine_port, folder)) for nth in range(2, providers + 1)
            ]
            system = System("GhubAi", port, (pid, *more), headers=headers)
            _until(lambda: _count_nodes(url, data) >= providers, log)
            yield _ready(system, log)


@contextmanager
def _provider(nth: int, url: str, data: Path, engine_port: int, folder: Path) -> Iterator[int]:
    env = {
        "GHUB_PROVIDER_NAME": f"node-{nth}",
        "GHUB_PROVIDER_HUB_URL": url,
        "GHUB_PROVIDER_TOKEN": (data / "provider-token").read_text().strip(),
        "GHUB_PROVIDER_ENGINE__URL": f"http://127.0.0.1:{engine_port}",
        "GHUB_PROVIDER_SLOTS": str(SLOTS),
        "GHUB_PROVIDER_SERVER__PORT": str(free_port()),
        "GHUB_PROVIDER_GATE__GPUS": "[]",
    }
    with _process([sys.executable, "-m", "provider"], folder / f"provider-{nth}.log", env) as pid:
        yield pid


def _count_nodes(url: str, data: Path) -> int:
    token = (data / "admin-token").read_text().strip()
    request = urllib.request.Request(f"{url}/api/registry", headers={"authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return len(json.load(answer)["nodes"])
    except OSError:
        return 0


def _key(url: str, data: Path, log: Path) -> str:
    """A key of a client with limits that are counted and never reached."""
    argv = [sys.executable, "-m", "ghub", "key", "create", "--name", "bench", "--rpm", "100000000"]
    argv += ["--tpm", "2000000000", "--concurrency", "4096", "--hub-url", url, "--json"]
    env = {**os.environ, "GHUB_DATA_DIR": str(data)}
    made = subprocess.run(argv, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=60, check=False)
    if made.returncode:
        raise NotHere(f"no key: {made.stderr[-500:]}\n{_tail(log)}")
    return str(json.loads(made.stdout)["key"])


ALL: Mapping[str, Opening] = {
    "direct": direct,
    "nginx": nginx,
    "vllm-router": vllm_router,
    "Portkey": portkey,
    "LiteLLM": litellm,
    "GhubAi": ours,
}


@contextmanager
def engine(models: int = 1) -> Iterator[int]:
    """The engine, which lists so many models; its port."""
    argv = [sys.executable, "-m", "bench.compare.engine", str(models)]
    with subprocess.Popen(argv, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline().split()[-1])
        assert process.stdin is not None
        process.stdin.close()


@contextmanager
def opened(name: str, engine_port: int, folder: Path) -> Iterator[System]:
    """A system, until the block ends. NotHere if it cannot be had."""
    steps = ALL[name](engine_port, folder)
    system = next(steps)
    try:
        yield system
    finally:
        with suppress(StopIteration):
            next(steps)


def role_of(argv: list[str]) -> str:
    """What a process is: a part of ours by its name, else the program."""
    module = argv[argv.index("-m") + 1] if "-m" in argv[:-1] else ""
    if module in OUR_PARTS:
        return OUR_PARTS[module]
    program = Path(argv[0]).name if argv else ""
    return "broker" if "valkey" in program or "redis" in program else program


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _uvx(requirement: str) -> list[str]:
    program = shutil.which("uv")
    if program is None:
        raise NotHere("no uv on PATH")
    return [program, "tool", "run", "--isolated", "--from", requirement]


def _cache() -> Path:
    return Path(os.environ.get("GHUB_BENCH_CACHE") or Path(tempfile.gettempdir()) / "ghub-bench")


@contextmanager
def _process(argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> Iterator[int]:
    with log.open("ab") as out:
        process = subprocess.Popen(
            argv,
            cwd=PROJECT,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(system: System, log: Path) -> System:
    """Wait until it answers a chat completion."""
    _until(lambda: _completes(system), log)
    return system


def _completes(system: System) -> bool:
    body = question(events=1, pace_ms=0, stream=False, nth=0)
    request = urllib.request.Request(
        f"http://127.0.0.1:{system.port}{system.path}",
        data=body,
        headers={"content-type": "application/json", **system.headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status == 200 and b" 0:" in answer.read()
    except OSError:
        return False


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _until(condition: Callable[[], bool], log: Path) -> None:
    limit = time.monotonic() + START_LIMIT_S
    while not condition():
        if time.monotonic() > limit:
            raise NotHere(f"it does not start:\n{_tail(log)}")
        time.sleep(0.2)


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:] if log.exists() else ""
