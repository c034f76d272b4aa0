"""Load balancers as deploy/ sets them up, in front of two hubs."""

import getpass
import re
from collections.abc import Callable
from pathlib import Path

from tests.support.call import is_ok
from tests.support.ports import free_port
from tests.support.processes import PROJECT, Process, until
from tests.support.tools import ended_well, tool

DEPLOY = PROJECT / "deploy"
NGINX_AROUND = """
user {user};
worker_processes 2;
pid {folder}/nginx.pid;
daemon off;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/ghubai.conf;
}}
"""
"""What Debian's or the image's own nginx.conf holds, for a folder of ours."""


class Balancer:
    """One that runs; `kind` is `haproxy`, `nginx` or `caddy`."""

    def __init__(self, kind: str, hubs: list[str], folder: Path) -> None:
        self.kind = kind
        self.url = f"http://127.0.0.1:{free_port()}"
        self.folder = folder / f"{kind}-{free_port()}"
        self.folder.mkdir()
        first, second = (hub.removeprefix("http://") for hub in hubs)
        env = {"LISTEN": self.url.removeprefix("http://"), "HUB_1": first, "HUB_2": second}
        self.process = _STARTS[kind](self.folder, env)
        try:
            until(lambda: is_ok(self.url, "/health/live"), 10, self.process.tail)
        except AssertionError:
            self.process.kill()
            raise

    def stop(self) -> None:
        """End it."""
        self.process.stop()


def _haproxy(folder: Path, env: dict[str, str]) -> Process:
    config = str(DEPLOY / "haproxy/haproxy.cfg")
    program = tool("haproxy", "apt-get install haproxy")
    assert "valid" in ended_well([program, "-c", "-f", config], **env)
    return Process("haproxy", [program, "-db", "-f", config], folder / "log", env)


def _nginx(folder: Path, env: dict[str, str]) -> Process:
    template = (DEPLOY / "nginx/ghubai.conf.template").read_text()
    (folder / "ghubai.conf").write_text(re.sub(r"\$\{([A-Z_0-9]+)\}", lambda found: env[found[1]], template))
    (folder / "nginx.conf").write_text(NGINX_AROUND.format(folder=folder, user=getpass.getuser()))
    argv = [tool("nginx", "apt-get install nginx-light"), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    assert "successful" in ended_well([*argv, "-t"])
    return Process("nginx", argv, folder / "log")


def _caddy(folder: Path, env: dict[str, str]) -> Process:
    config = str(DEPLOY / "caddy/Caddyfile")
    env = {**env, "LISTEN": f"http://{env['LISTEN']}", "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    program = tool("caddy", "apt-get install caddy")
    assert "Valid" in ended_well([program, "validate", "--config", config, "--adapter", "caddyfile"], **env)
    return Process("caddy", [program, "run", "--config", config, "--adapter", "caddyfile"], folder / "log", env)


_STARTS: dict[str, Callable[[Path, dict[str, str]], Process]] = {
    "haproxy": _haproxy,
    "nginx": _nginx,
    "caddy": _caddy,
}
KINDS = [*_STARTS]
