"""What of a grid this machine has, as far as files, variables and processes tell; nothing is asked over the network."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from common.addresses import is_loopback
from common.errors import SettingsError
from ghub import ports
from ghub.client.hub import DEFAULT_URL, TOKEN_FILE, TOKEN_VARIABLE, AdminHub, data_dir_of_up, hub_root
from ghub.client.secret_files import read_secret
from ghub.doctor.running_up import RunningUp, find_up
from provider.config.reading import Configuration, read_configuration


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where to look."""

    data_dir: Path
    up: RunningUp | None
    hub: AdminHub
    """The one to look at, with the token to show it."""
    hub_source: str
    """Who named it; empty: nobody did, it is the usual one."""
    has_token: bool
    broker_url: str | None = field(repr=False)
    """With its password; None: nobody named one."""
    broker_source: str
    configuration: Configuration | None
    """Of the provider; None: its settings are wrong."""
    mistakes: str
    """What is wrong with them."""
    is_provider_wanted: bool
    """Whether somebody set up a provider here."""
    provider_url: str

    @property
    def is_hub_here(self) -> bool:
        """Whether the hub to look at would be on this machine."""
        return is_loopback(urlsplit(self.hub.url).hostname or "")


def survey(hub_url: str | None, token_file: Path | None, data_dir: Path | None, config: Path | None) -> Surroundings:
    """Look around.

    Args:
        hub_url: what the option says.
        token_file: likewise; else as every command finds the admin token.
        data_dir: of `ghub up`; None: where it usually is.
        config: the provider's file; None: where it usually is.

    Raises:
        StartRefused: an option or a variable makes no sense.
    """
    folder = (data_dir or data_dir_of_up()).expanduser().absolute()
    up = find_up(folder)
    configuration, mistakes = _configuration(config, up)
    url, source = _hub(hub_url, up, configuration)
    token = _token(url, token_file, folder)
    broker, broker_source = _broker(up, configuration)
    is_wanted = up is not None or config is not None or (configuration is None or _is_set_up(configuration))
    return Surroundings(
        folder,
        up,
        AdminHub(url, token),
        source,
        token is not None,
        broker,
        broker_source,
        configuration,
        mistakes,
        is_wanted,
        _provider_url(up, configuration),
    )


def _configuration(config: Path | None, up: RunningUp | None) -> tuple[Configuration | None, str]:
    given: dict[tuple[str, ...], object] = {}
    if up is not None and up.engine_url:
        given[("engine", "url")] = up.engine_url
    try:
        return read_configuration(config, given), ""
    except SettingsError as exc:
        return None, str(exc)


def _is_set_up(configuration: Configuration) -> bool:
    return configuration.file is not None or configuration.settings.hub_url is not None


def _hub(given: str | None, up: RunningUp | None, configuration: Configuration | None) -> tuple[str, str]:
    if given is not None:
        return hub_root(given), "--hub-url"
    if os.environ.get("GHUB_HUB_URL"):
        return hub_root(None), "GHUB_HUB_URL"
    if up is not None and up.hub_url:
        return up.hub_url, "ghub up"
    if configuration is not None and configuration.settings.hub_url:
        return hub_root(configuration.settings.hub_url), "the provider's settings"
    return DEFAULT_URL, ""


def _token(url: str, token_file: Path | None, folder: Path) -> str | None:
    file = folder / TOKEN_FILE
    try:
        is_ours = is_loopback(urlsplit(url).hostname or "") and file.is_file() and os.access(file, os.R_OK)
    except OSError:
        is_ours = False
    found = read_secret("token", token_file, [TOKEN_VARIABLE])
    return found or (read_secret("token", file, []) if is_ours else None)


def _broker(up: RunningUp | None, configuration: Configuration | None) -> tuple[str | None, str]:
    if up is not None and up.broker_url:
        return up.broker_url, "ghub up"
    if url := os.environ.get("GHUB_REDIS_URL"):
        return url, "GHUB_REDIS_URL"
    if configuration is not None and ("redis_url",) in configuration.places:
        return configuration.settings.redis_url, "the provider's settings"
    return None, ""


def _provider_url(up: RunningUp | None, configuration: Configuration | None) -> str:
    if up is not None and up.provider_url:
        return up.provider_url
    if configuration is None:
        return "http://127.0.0.1:8081"
    server = configuration.settings.server
    return ports.near_url(server.host, server.port)
