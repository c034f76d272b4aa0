"""Which grid a provider works for: the one it was told of, else the one that its hub names; and over which wires."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from common.broker.broker import Broker
from common.errors import SettingsError
from common.registration import Registration
from common.signing import SigningKeys
from provider.membership.access import is_bare
from provider.membership.hub_client import HubClient
from provider.membership.joining import application, joined_grid, named_grid
from provider.membership.membership import Membership
from provider.protocol.engine import EngineStatus
from provider.settings import ProviderSettings
from tests.unit.provider_parts import Parts, model

HUB = {"hub_url": "https://hub.example.org", "token": "a-token"}


@pytest.fixture(autouse=True)
def _nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GHUB_REDIS_URL", raising=False)


def settings(**fields: Any) -> ProviderSettings:
    return ProviderSettings(name="desk", **fields)


def registration(**fields: Any) -> Registration:
    given = {"node": "desk", "heartbeat_s": 0.5, "prefix": "lab:", "redis_url": "rediss://broker.example.org:6380"}
    return Registration(**{**given, "username": "desk", "password": "secret", **fields})


def membership(of: ProviderSettings) -> Membership:
    def nothing() -> None: ...

    hub = HubClient(of)
    parts = Parts()
    return Membership(
        hub,
        lambda: application(of, "i", parts.machine, parts.standing),
        own_keys=SigningKeys(),
        on_renewed=nothing,
        on_revoked=nothing,
        on_moved=nothing,
    )


class TestWhoRegisters:
    def test_a_hub_and_a_token_are_enough(self) -> None:
        assert settings(**HUB).registers

    @pytest.mark.parametrize("missing", ["hub_url", "token"])
    def test_neither_alone_is(self, missing: str) -> None:
        assert not settings(**{name: value for name, value in HUB.items() if name != missing}).registers

    def test_who_is_told_of_a_broker_does_not_though_it_be_the_usual_one(self) -> None:
        assert not settings(**HUB, redis_url="redis://127.0.0.1:6379/0").registers

    def test_a_variable_tells_of_one_unless_it_is_empty(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GHUB_REDIS_URL", "redis://127.0.0.1:6379/0")
        assert not settings(**HUB).registers
        monkeypatch.setenv("GHUB_REDIS_URL", "")
        assert settings(**HUB).registers

    @pytest.mark.parametrize("missing", ["hub_url", "token"])
    async def test_who_has_but_one_of_them_is_told_why_it_looks_for_the_usual_broker(self, missing: str) -> None:
        of = settings(**{name: value for name, value in HUB.items() if name != missing})
        with capture_logs() as logs:
            await _close(named_grid(of, Parts().engine, SigningKeys()).broker)
        told = [one for one in logs if one["event"] == "hub_not_joined"]
        assert [(one["missing"], one["broker"]) for one in told] == [(missing, "127.0.0.1:6379")]

    @pytest.mark.parametrize("fields", [{}, {**HUB, "redis_url": "redis://127.0.0.1:6379/0"}])
    async def test_nobody_else_is(self, fields: dict[str, str]) -> None:
        with capture_logs() as logs:
            await _close(named_grid(settings(**fields), Parts().engine, SigningKeys()).broker)
        assert "hub_not_joined" not in [one["event"] for one in logs]

    def test_without_anything_the_usual_broker_is_meant(self) -> None:
        assert not settings().registers
        assert settings().redis_url == "redis://127.0.0.1:6379/0"


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("redis://broker.example.org", True),
        ("redis://10.0.0.7:6379/0", True),
        ("redis://[fd00::7]:6379", True),
        ("redis://127.0.0.1:6379", False),
        ("redis://[::1]:6379", False),
        ("redis://localhost", False),
        ("redis:///0", False),
        ("rediss://broker.example.org", False),
        ("unix:///run/valkey.sock", False),
    ],
)
def test_what_crosses_a_network_without_tls_is_known_by_its_url(url: str, *, bare: bool) -> None:
    assert is_bare(url) == bare


class TestJoinedGrid:
    async def test_what_the_grid_has_agreed_on_counts(self) -> None:
        of = settings(**HUB)
        footing = joined_grid(of, membership(of), registration())
        assert (footing.settings.prefix, footing.settings.heartbeat_s) == ("lab:", 0.5)
        assert footing.settings.lease_ms == 1500
        assert footing.broker.keys.prefix == "lab:"
        assert footing.access.is_member
        await footing.broker.aclose()

    @pytest.mark.parametrize(
        ("hub_url", "redis_url", "warned"),
        [
            ("https://hub.example.org", "redis://broker.example.org", True),
            ("https://hub.example.org", "rediss://broker.example.org", False),
            ("https://hub.example.org", "redis://127.0.0.1", False),
            ("http://hub.lan", "redis://broker.lan", False),
        ],
    )
    async def test_a_broker_in_clear_behind_a_hub_with_tls_is_warned_of(
        self, hub_url: str, redis_url: str, *, warned: bool
    ) -> None:
        of = settings(hub_url=hub_url, token="a-token")
        with capture_logs() as logs:
            await _close(joined_grid(of, membership(of), registration(redis_url=redis_url)).broker)
        assert [one["event"] for one in logs].count("broker_without_tls") == int(warned)
        assert "secret" not in str(logs)

    def test_and_refused_where_tls_is_required(self) -> None:
        of = settings(**HUB, require_broker_tls=True)
        with pytest.raises(SettingsError, match="no TLS"):
            joined_grid(of, membership(of), registration(redis_url="redis://broker.example.org"))

    def test_so_is_one_that_was_set_here(self) -> None:
        of = settings(redis_url="redis://broker.example.org", require_broker_tls=True)
        with pytest.raises(SettingsError, match="no TLS"):
            named_grid(of, Parts().engine, SigningKeys())


def test_an_application_names_the_models_that_a_registration_can_hold() -> None:
    parts = Parts()
    models = tuple(model(name) for name in ("b", "a", "x" * 257, "é" * 256))
    parts.engine.now = EngineStatus("ollama", "http://127.0.0.1:11434", models=models, slots=2**30)
    asked = application(settings(), "instance", parts.machine, parts.standing)
    assert asked.models == ("a", "b", "é" * 256)
    assert (asked.name, asked.instance, asked.slots) == ("desk", "instance", 2**20)


async def _close(broker: Broker) -> None:
    await broker.aclose()
