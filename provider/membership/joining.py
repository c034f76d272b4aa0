"""Finds the grid that a provider is to work for: the broker that its settings name, or the one that its hub names."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import structlog

from common import __version__
from common.broker.broker import Broker, connect
from common.errors import SettingsError
from common.registration import MAX_SLOTS, Registration, RegistrationRequest
from common.report import MAX_MODEL_CHARS, MAX_MODELS
from common.signing import SigningKeys
from common.streams.jobs import JobLanes
from common.types import ModelId, NodeId
from provider.engines.watch import EngineWatch
from provider.machine import Machine
from provider.membership.access import Access, SharedAccess, is_bare
from provider.membership.membership import Membership
from provider.settings import ProviderSettings
from provider.standing import Standing

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Footing:
    """Where a provider works, and as what."""

    settings: ProviderSettings
    """With what the whole grid agrees on, as this grid has it."""
    broker: Broker
    access: Access


def named_grid(settings: ProviderSettings, engine: EngineWatch, signing: SigningKeys) -> Footing:
    """The grid at the broker that was set.

    Raises:
        SettingsError: its URL cannot work, or is not safe enough.
    """
    broker = _connect(settings, None)
    if "redis_url" not in settings.model_fields_set and (settings.hub_url is None) != (settings.token is None):
        missing, variable = ("hub_url", "HUB_URL") if settings.hub_url is None else ("token", "TOKEN")
        log.warning(
            "hub_not_joined",
            missing=missing,
            broker=urlsplit(settings.redis_url).netloc.rpartition("@")[2],
            hint=f"nobody named a broker, so the usual one is meant; to join by a hub set GHUB_PROVIDER_{variable} too",
        )

    def models() -> Sequence[ModelId]:
        return engine.models

    return Footing(settings, broker, SharedAccess(JobLanes(broker), models, signing, NodeId(settings.name)))


def joined_grid(settings: ProviderSettings, membership: Membership, registration: Registration) -> Footing:
    """The grid that a hub has let this provider into.

    Raises:
        SettingsError: the hub names a broker that cannot work, or is not safe enough.
    """
    there = {name: getattr(registration, name) for name in ("redis_url", "prefix", "heartbeat_s")}
    joined = settings.model_copy(update=there)
    if urlsplit(settings.hub_url or "").scheme == "https" and is_bare(joined.redis_url):
        log.warning(
            "broker_without_tls",
            broker=urlsplit(joined.redis_url).hostname,
            risk="this node's password, prompts and answers cross the network in clear",
            hint="give the broker TLS and set GHUB_HUB_PROVIDER_REDIS_URL=rediss://… on the hubs",
        )
    return Footing(joined, _connect(joined, membership if registration.password is not None else None), membership)


def application(settings: ProviderSettings, instance: str, machine: Machine, standing: Standing) -> RegistrationRequest:
    """What a provider asks of its hub, as it stands now; models whose names no registration can hold are left out."""
    models = [model for model in machine.engine.models if 0 < len(model) <= MAX_MODEL_CHARS]
    return RegistrationRequest(
        name=settings.name,
        models=tuple(sorted(models)[:MAX_MODELS]),
        slots=min(machine.slots.total, MAX_SLOTS),
        engine=standing.engine(),
        version=__version__,
        instance=instance,
    )


def _connect(settings: ProviderSettings, membership: Membership | None) -> Broker:
    if settings.require_broker_tls and is_bare(settings.redis_url):
        raise SettingsError(
            f"the broker at {urlsplit(settings.redis_url).hostname} has no TLS, and require_broker_tls is set"
        )
    return connect(
        settings.redis_url,
        prefix=settings.prefix,
        client_name=f"ghub-provider-{settings.name}",
        credentials=None if membership is None else membership.credentials,
    )
