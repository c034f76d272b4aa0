"""What a one-machine stack is made of: the parts, their surroundings, and the order in which they begin and end.

begin   broker -> hub(s)              end   1 hubs      take no more, finish what is open
        broker, engine -> provider,         2 provider  finish jobs, or give them back
           which joins when a hub is there
                                            3 engine    at once
                                            4 broker    last, so that every word of the others gets through
"""

import os
import sys
from dataclasses import dataclass
from functools import partial

import httpx2
from pydantic import SecretStr

from common.settings import SharedSettings, read_settings
from ghub import ports, probes
from ghub.errors import EXIT_REFUSED
from ghub.processes.child import Part
from ghub.settings import UpSettings
from ghub.up.broker import BrokerChoice, embedded_broker, running_broker
from ghub.up.data_dir import DataDir
from ghub.up.engine_choice import EngineChoice, choose_engine
from hub.settings import HubSettings

HUB_STOP_TURN, PROVIDER_STOP_TURN = 0, 1
_HUB_TOKENS = "GHUB_HUB_PROVIDER_TOKENS"
"""Set by a user too where providers of other machines join: the stack's own token goes beside theirs."""
_HUB_ADMIN_TOKEN = "GHUB_HUB_ADMIN_TOKEN"  # noqa: S105 - a variable's name
_HUB_DIRECT_KEYS = "GHUB_HUB_DIRECT_KEYS"
"""A user's own of these two count instead of the stack's."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Parts, ready to be started, and what people want to know of them."""

    parts: tuple[Part, ...]
    base_url: str
    """Of the hubs, as this machine reaches them."""
    settings: UpSettings
    engine: EngineChoice
    broker: BrokerChoice
    prefix: str
    """What every key at the broker starts with."""
    admin_token: SecretStr
    """The hubs tell its holder everything."""


async def plan_stack(settings: UpSettings, data_dir: DataDir, client: httpx2.AsyncClient) -> Stack:
    """Look at the machine and decide what to start; nothing is started here.

    Args:
        settings: what was asked for.
        data_dir: locked.
        client: for the probes; it must live as long as the parts.

    Raises:
        StartRefused: something that is needed is missing, taken or out of reach.
        SettingsError: a setting that all parts share cannot work.
    """
    shared = SharedSettings()
    if settings.redis_url is None:
        is_private = not read_settings(HubSettings, host=settings.host).needs_client_keys
        broker = embedded_broker(settings, data_dir, shared.prefix, anyone_may_look=is_private)
    else:
        broker = await running_broker(settings.redis_url)
    engine = await choose_engine(settings, client)
    key = shared.signing_key or data_dir.signing_key()
    joint = {"GHUB_REDIS_URL": broker.url, "GHUB_SIGNING_KEY": key.get_secret_value()}
    started = tuple(part for part in (broker.part, engine.part) if part is not None)
    base_url = ports.near_url(settings.host, settings.port)
    token = data_dir.provider_token().get_secret_value()
    admin_token = SecretStr(os.environ.get(_HUB_ADMIN_TOKEN) or data_dir.admin_token().get_secret_value())
    at_provider = {"GHUB_PROVIDER_HUB_URL": base_url, "GHUB_PROVIDER_TOKEN": token}
    if broker.part is None:  # whose users may not be ours to make; else the provider gets all the rest from a hub
        at_provider |= joint
    at_hub = {
        _HUB_TOKENS: ",".join(filter(None, [os.environ.get(_HUB_TOKENS), token])),
        _HUB_ADMIN_TOKEN: admin_token.get_secret_value(),
        _HUB_DIRECT_KEYS: os.environ.get(_HUB_DIRECT_KEYS) or data_dir.direct_key().get_secret_value(),
    }
    if settings.hubs > 1:
        at_hub["PROMETHEUS_MULTIPROC_DIR"] = str(data_dir.fresh_metrics())
    parts = (
        *started,
        _provider(settings, engine, at_provider, needs=tuple(part.name for part in started)),
        *_hubs(settings, {**joint, **at_hub}, client, needs=("broker",) if broker.part else ()),
    )
    return Stack(parts, base_url, settings, engine, broker, shared.prefix, admin_token)


def _provider(settings: UpSettings, engine: EngineChoice, joint: dict[str, str], needs: tuple[str, ...]) -> Part:
    wish = settings.provider_port if settings.provider_port != settings.port else 0  # that one is kept for the hubs
    port = ports.free_port(wish)
    env = {
        **joint,
        "GHUB_PROVIDER_CONFIG": "",  # a user's file is for a provider that runs by itself
        "GHUB_PROVIDER_SERVER__PORT": str(port),
        "GHUB_PROVIDER_ENGINE__URL": engine.url,
        "GHUB_PROVIDER_DRAIN_TIMEOUT_S": str(settings.provider_drain_timeout_s),
    }
    if engine.slots is not None:
        env["GHUB_PROVIDER_SLOTS"] = str(engine.slots)
    if engine.part is not None:
        env["GHUB_PROVIDER_GATE__GPUS"] = "[]"  # the built-in engine uses the processor alone: no GPU is in its way
    return Part(
        name="provider",
        argv=(sys.executable, "-P", "-m", "provider"),
        env=env,
        address=f"127.0.0.1:{port}  serves {engine.url}",
        needs=needs,
        stop_turn=PROVIDER_STOP_TURN,
        stop_timeout_s=settings.provider_drain_timeout_s + settings.stop_grace_s,
        fatal_exit_codes=frozenset({EXIT_REFUSED}),
    )


def _hubs(
    settings: UpSettings, joint: dict[str, str], client: httpx2.AsyncClient, needs: tuple[str, ...]
) -> list[Part]:
    address = ports.netloc(settings.host, settings.port)
    names = [f"hub-{number}" for number in range(1, settings.hubs + 1)] if settings.hubs > 1 else ["hub"]
    return [
        Part(
            name=name,
            argv=(sys.executable, "-P", "-m", "hub"),
            env={
                **joint,
                "GHUB_HUB_HOST": settings.host,
                "GHUB_HUB_PORT": str(settings.port),
                "GHUB_HUB_REUSE_PORT": "1" if settings.hubs > 1 else "0",
                "GHUB_HUB_SHUTDOWN_DELAY_S": "0",  # nothing stands in front of it
                "GHUB_HUB_SHUTDOWN_TIMEOUT_S": str(settings.hub_shutdown_timeout_s),
            },
            address=address,
            probe=partial(probes.is_ok, client, f"{ports.near_url(settings.host, settings.port)}/health/live"),
            needs=needs,
            stop_turn=HUB_STOP_TURN,
            stop_timeout_s=settings.hub_shutdown_timeout_s + settings.stop_grace_s,
            fatal_exit_codes=frozenset({EXIT_REFUSED}),
        )
        for name in names
    ]
