"""Those this project is compared with, each started as its own documentation says.

They come from the package registries: nginx from the system, LiteLLM and vllm-router by `uvx`, Portkey by `npm`.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.compare.system import NotHere, System, process, ready
from bench.compare.wire import MODEL
from tests.support.ports import free_port

LITELLM = "litellm[proxy]==1.106.2"
VLLM_ROUTER = "vllm-router==0.1.17"
PORTKEY = {
    "dependencies": {"@portkey-ai/gateway": "1.15.2"},
    "overrides": {"@hono/node-server": "1.13.8"},  # with the newest it answers every stream with 500
}


@contextmanager
def direct(engine_port: int, _: Path) -> Iterator[System]:
    """No gateway."""
    yield System("direct", engine_port, ())


@contextmanager
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
    with process([program, "-c", str(config), "-p", str(folder)], folder / "nginx.log") as one:
        yield ready(System("nginx", port, (one.pid,)), one)


@contextmanager
def litellm(engine_port: int, folder: Path) -> Iterator[System]:
    """LiteLLM's proxy with one model, without a database or keys."""
    port = free_port()
    config = folder / "litellm.yaml"
    parameters = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{engine_port}/v1", "api_key": "none"}
    config.write_text(json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": parameters}]}))
    argv = [*_uvx(LITELLM), "litellm", "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "LITELLM_LOG": "ERROR"}
    env["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"
    with process(argv, folder / "litellm.log", env) as one:
        yield ready(System("LiteLLM", port, (one.pid,)), one)


@contextmanager
def vllm_router(engine_port: int, folder: Path) -> Iterator[System]:
    """vLLM's router, in Rust."""
    port, metrics = free_port(), free_port()
    argv = [*_uvx(VLLM_ROUTER), "vllm-router", "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--worker-urls", f"http://127.0.0.1:{engine_port}", "--policy", "round_robin"]
    argv += ["--prometheus-port", str(metrics), "--prometheus-host", "127.0.0.1", "--log-level", "warning"]
    with process(argv, folder / "vllm-router.log") as one:
        yield ready(System("vllm-router", port, (one.pid,)), one)


@contextmanager
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
    with process(argv, folder / "portkey.log", env) as one:
        yield ready(System("Portkey", port, (one.pid,), headers=headers), one)


def _uvx(requirement: str) -> list[str]:
    program = shutil.which("uv")
    if program is None:
        raise NotHere("no uv on PATH")
    return [program, "tool", "run", "--isolated", "--from", requirement]


def _cache() -> Path:
    return Path(os.environ.get("GHUB_BENCH_CACHE") or Path(tempfile.gettempdir()) / "ghub-bench")
