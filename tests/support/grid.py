"""A whole grid of real processes for tests: one broker, engines, hubs and providers."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import redis

from tests.doubles.process import EngineProcess
from tests.support.brokers import BrokerProcess
from tests.support.call import get, status_of
from tests.support.ports import free_port
from tests.support.processes import Process, python, until

SIGNING_KEY = "test:0123456789abcdef"
FORMER_ENDS_WITHIN_S = 10.0


class Chain(NamedTuple):
    """One hub, one provider, one engine, ready to work."""

    hub: str
    node: str
    engine: EngineProcess


class Grid:
    """Starts parts, waits until they work together, ends them all.

    `env` of a part adds to or overrides the environment of its process, e.g. `{"GHUB_HUB_MAX_QUEUE": "3"}`.
    With `afresh` hubs and providers start as a user's do: a second later each, under a command line of their own.
    """

    def __init__(self, broker: BrokerProcess, folder: Path, *, afresh: bool = False) -> None:
        self.broker = broker
        self.folder = folder
        self._afresh = afresh
        self.hubs: dict[str, Process] = {}
        self.providers: dict[str, Process] = {}
        self.provider_urls: dict[str, str] = {}
        """Where each provider serves its own HTTP."""
        self.replaced: list[Process] = []
        """Former processes of nodes and hubs that were started again."""
        self.engines: list[EngineProcess] = []
        self._starts = 0
        self._stack = ExitStack()

    def close(self) -> None:
        """End everything this grid started, but for the broker."""
        for process in self._processes():
            process.kill()
        self._stack.close()

    def engine(self, *models: str, slots: int = 4, **options: Any) -> EngineProcess:
        """Start a test engine."""
        engine = self._stack.enter_context(EngineProcess(models=models or ("tiny:1b",), slots=slots, **options))
        self.engines.append(engine)
        return engine

    def hub(self, *, wait: bool = True, url: str = "", **env: str) -> str:
        """Start a hub; its base URL. It is ready when this returns, unless told not to wait.

        `url` is where a former one served, which is over: this one takes its place.
        """
        if former := self.hubs.get(url):
            former.wait(FORMER_ENDS_WITHIN_S)  # what was killed a moment ago may still hold the port
            self.replaced.append(former)
        url = url or f"http://127.0.0.1:{free_port()}"
        env = {"GHUB_HUB_PORT": url.rpartition(":")[2], **self._env(), **env}
        self._starts += 1
        log = self.folder / f"hub-{self._starts}.log"
        process = Process("hub", python("-m", "hub"), log, env, afresh=self._afresh)
        self.hubs[url] = process
        if wait:
            self.wait_for_hub(url)
        return url

    def provider(self, engine_url: str, name: str = "", *, wait: bool = True, **env: str) -> str:
        """Start a provider; its node name. It is in the registry with a model when this returns, unless told not to."""
        name = name or f"node-{len(self.providers)}"
        port = str(free_port())
        env = {
            "GHUB_PROVIDER_NAME": name,
            "GHUB_PROVIDER_ENGINE__URL": engine_url,
            "GHUB_PROVIDER_SERVER__PORT": port,
            "GHUB_PROVIDER_CONFIG": "",  # not that of whoever runs the tests
            **self._env(),
            **env,
        }
        self.provider_urls[name] = f"http://127.0.0.1:{env['GHUB_PROVIDER_SERVER__PORT']}"
        self._starts += 1
        log = self.folder / f"provider-{name}-{self._starts}.log"
        process = Process(f"provider {name}", python("-m", "provider"), log, env, afresh=self._afresh)
        self.replaced += [former] if (former := self.providers.get(name)) else []
        self.providers[name] = process
        if wait:
            self.wait_for_node(name)
        return name

    def chain(
        self, *models: str, slots: int = 4, provider_slots: int | None = None, kind: str = "openai", **env: str
    ) -> Chain:
        """Start one of each at once, and wait until they work together. `env` goes to hub and provider."""
        engine = self.engine(*models, slots=slots, kind=kind)
        hub = self.hub(wait=False, **env)
        node = self.provider(engine.url, wait=False, **{"GHUB_PROVIDER_SLOTS": str(provider_slots or slots), **env})
        self.wait_for_node(node)
        self.wait_for_hub(hub)
        self.wait_for_model(hub, models[0] if models else "tiny:1b")
        return Chain(hub, node, engine)

    def wait_for_hub(self, url: str, within_s: float = 30) -> None:
        """Wait until a hub takes requests."""
        until(lambda: self.status(url, "/health/ready") == 200, within_s, self.hubs[url].tail)

    def wait_for_node(self, name: str, within_s: float = 30) -> None:
        """Wait until a node is in the registry and takes work."""
        with self.redis() as client:
            until(lambda: self.node(client, name).get("state") in ("idle", "busy"), within_s, self.providers[name].tail)

    def node(self, client: redis.Redis, name: str) -> dict[str, str]:
        """A node as the registry has it; empty if it is not there, or the broker is not."""
        try:
            return dict(client.hgetall(f"ghub:node:{name}"))
        except redis.ConnectionError:
            return {}

    def redis(self) -> redis.Redis:
        """A client for looking at keys, as `with grid.redis() as client`."""
        return self.broker.client()

    def wait_for_model(self, hub_url: str, model: str, within_s: float = 20) -> None:
        """Wait until a hub lists a model."""
        until(
            lambda: model in [one["id"] for one in get(hub_url, "/v1/models").json["data"]],
            within_s,
            f"{model} at {hub_url}",
        )

    def status(self, url: str, path: str) -> int:
        """What a GET is answered with; 0 if nothing answers."""
        return status_of(url, path)

    def logs(self) -> Iterator[str]:
        """The ends of all logs, for a failing test."""
        for process in self._processes():
            yield f"--- {process.name}\n{process.tail()}"

    def _processes(self) -> list[Process]:
        return [*self.hubs.values(), *self.replaced, *self.providers.values()]

    def _env(self) -> dict[str, str]:
        return {"GHUB_REDIS_URL": self.broker.url, "GHUB_SIGNING_KEY": SIGNING_KEY}


def chat(
    prompt: str = "hi", *, model: str = "tiny:1b", tokens: int = 16, stream: bool = False, **fields: Any
) -> dict[str, Any]:
    """A chat request body; `double={...}` chooses the test engine's behaviour."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "stream": stream,
        **fields,
    }
