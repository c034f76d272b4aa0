"""Settings: from the environment, nested with `__`; what cannot work is named in one line, and no secret is shown."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

import hub
from common.addresses import is_loopback
from common.errors import SettingsError
from common.settings import SharedSettings, read_settings
from hub.settings import Auth, HubSettings
from provider.settings import EngineKind, EngineSettings, ProviderSettings, ServerSettings


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment of whoever runs the tests, and a .env beside them, say nothing here."""
    for name in os.environ:
        if name.startswith("GHUB_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


class TestShared:
    @pytest.mark.parametrize("shape", [HubSettings, ProviderSettings])
    def test_hub_and_provider_agree_without_any_setting(self, shape: type[SharedSettings]) -> None:
        settings = shape()
        assert (settings.redis_url, settings.prefix) == ("redis://127.0.0.1:6379/0", "ghub:")
        assert settings.signing_key is None

    @pytest.mark.parametrize("shape", [HubSettings, ProviderSettings])
    def test_what_a_grid_shares_has_one_name_for_all(
        self, monkeypatch: pytest.MonkeyPatch, shape: type[SharedSettings]
    ) -> None:
        monkeypatch.setenv("GHUB_REDIS_URL", "redis://broker:6379/3")
        monkeypatch.setenv("GHUB_PREFIX", "lab:")
        monkeypatch.setenv("GHUB_SIGNING_KEY", "k1:0123456789abcdef")
        monkeypatch.setenv("GHUB_LOG_FORMAT", "json")
        monkeypatch.setenv("GHUB_HEARTBEAT_S", "0.5")
        settings = shape()
        assert (settings.redis_url, settings.prefix) == ("redis://broker:6379/3", "lab:")
        assert settings.signing_key is not None
        assert settings.signing_key.get_secret_value() == "k1:0123456789abcdef"
        assert settings.lease_ms == 1500

    def test_what_is_given_wins_over_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """So that `ghub hub --redis-url` means what it says."""
        monkeypatch.setenv("GHUB_REDIS_URL", "redis://environment")
        monkeypatch.setenv("GHUB_HUB_NAME", "environment")
        monkeypatch.setenv("GHUB_PROVIDER_NAME", "environment")
        monkeypatch.setenv("GHUB_PROVIDER_ENGINE__URL", "http://environment")
        hub = HubSettings(redis_url="redis://given", name="given")
        provider = ProviderSettings(redis_url="redis://given", name="given", engine=EngineSettings(url="http://given"))
        for settings in (hub, provider):
            assert (settings.redis_url, settings.name) == ("redis://given", "given")
        assert provider.engine.url == "http://given"

    def test_each_kind_of_process_has_its_own_prefix(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GHUB_HUB_NAME", "front")
        monkeypatch.setenv("GHUB_PROVIDER_NAME", "gpu-1")
        assert HubSettings().name == "front"
        assert ProviderSettings().name == "gpu-1"

    def test_unknown_settings_of_the_prefix_do_no_harm(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GHUB_HUB_LATER_SETTING", "1")
        monkeypatch.setenv("GHUB_PROVIDER_LATER__SETTING", "1")
        HubSettings()
        ProviderSettings()

    @pytest.mark.parametrize("prefix", ["", "a{b}", "two words", "x" * 41, "tab\t"])
    def test_a_prefix_that_would_move_keys_is_refused(self, prefix: str) -> None:
        with pytest.raises(SettingsError, match="GHUB_PREFIX"):
            read_settings(HubSettings, prefix=prefix)

    def test_settings_do_not_change_under_a_running_process(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            HubSettings().port = 1  # type: ignore[misc]


class TestNested:
    def test_the_engine_is_set_by_nested_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GHUB_PROVIDER_ENGINE__URL", "http://127.0.0.1:11434")
        monkeypatch.setenv("GHUB_PROVIDER_ENGINE__KIND", "llamacpp")
        monkeypatch.setenv("GHUB_PROVIDER_ENGINE__API_KEY", "secret-of-the-engine")
        engine = ProviderSettings().engine
        assert (engine.url, engine.kind) == ("http://127.0.0.1:11434", EngineKind.LLAMACPP)
        assert engine.api_key is not None
        assert engine.api_key.get_secret_value() == "secret-of-the-engine"

    def test_one_nested_setting_leaves_the_others_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = ProviderSettings().engine
        monkeypatch.setenv("GHUB_PROVIDER_ENGINE__PROBE_INTERVAL_S", "1")
        assert ProviderSettings().engine == before.model_copy(update={"probe_interval_s": 1})


class TestBadValues:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("GHUB_HUB_PORT", "http"),
            ("GHUB_HUB_PORT", "65536"),
            ("GHUB_HUB_MAX_QUEUE", "0"),
            ("GHUB_HUB_AUTH", "sometimes"),
            ("GHUB_HUB_NAME", "with space"),
            ("GHUB_HUB_NAME", "x" * 65),
            ("GHUB_HUB_NAME", "-front"),
            ("GHUB_HEARTBEAT_S", "0"),
            ("GHUB_LOG_LEVEL", "LOUD"),
            ("GHUB_PREFIX", "{x}"),
            ("GHUB_PROVIDER_SLOTS", "0"),
            ("GHUB_PROVIDER_SLOTS", "many"),
            ("GHUB_PROVIDER_NAME", "a:b"),
            ("GHUB_PROVIDER_NAME", "a{b}"),
            ("GHUB_PROVIDER_ENGINE__URL", "localhost:8000"),
            ("GHUB_PROVIDER_ENGINE__URL", "ftp://x"),
            ("GHUB_PROVIDER_ENGINE__KIND", "magic"),
            ("GHUB_PROVIDER_FIRST_TOKEN_TIMEOUT_S", "0"),
            ("GHUB_PROVIDER_FLUSH_GAP_MS", "-1"),
        ],
    )
    def test_a_bad_value_is_named(self, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
        monkeypatch.setenv(name, value)
        with pytest.raises(SettingsError) as refusal:
            read_settings(ProviderSettings if name.startswith("GHUB_PROVIDER_") else HubSettings)
        line = str(refusal.value)
        assert line.startswith(f"{name}: ")
        assert "\n" not in line

    def test_all_bad_values_are_named_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GHUB_HUB_PORT", "x")
        monkeypatch.setenv("GHUB_HUB_MAX_QUEUE", "x")
        with pytest.raises(SettingsError) as refusal:
            read_settings(HubSettings)
        line = str(refusal.value)
        assert "GHUB_HUB_PORT" in line
        assert "GHUB_HUB_MAX_QUEUE" in line

    def test_no_secret_is_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GHUB_SIGNING_KEY", "k1:0123456789abcdef")
        monkeypatch.setenv("GHUB_PROVIDER_ENGINE__API_KEY", "0123456789abcdef")
        monkeypatch.setenv("GHUB_PROVIDER_SLOTS", "x")
        with pytest.raises(SettingsError) as refusal:
            read_settings(ProviderSettings)
        assert "0123456789abcdef" not in str(refusal.value)
        monkeypatch.delenv("GHUB_PROVIDER_SLOTS")
        assert "0123456789abcdef" not in repr(ProviderSettings())


class TestOpenHosts:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "hub.example.org", "localhost.example.org", ""])
    def test_a_hub_that_others_reach_asks_clients_for_keys(self, host: str) -> None:
        assert HubSettings(host=host).needs_client_keys

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "hub.example.org"])
    def test_unless_it_is_said_that_someone_else_sees_to_it(self, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
        monkeypatch.setenv("GHUB_HUB_AUTH", "off")
        monkeypatch.setenv("GHUB_HUB_HOST", host)
        assert not HubSettings().needs_client_keys

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.5.5.5", "::1", "localhost"])
    def test_loopback_is_open_by_itself(self, host: str) -> None:
        assert is_loopback(host)
        assert not HubSettings(host=host).needs_client_keys
        assert HubSettings(host=host, auth=Auth.REQUIRED).needs_client_keys


class TestTokens:
    """They stand in headers, and an empty one is the one that everybody shows."""

    NAMES = ("GHUB_PROVIDER_TOKEN", "GHUB_PROVIDER_SERVER__CONTROL_TOKEN", "GHUB_PROVIDER_ENGINE__API_KEY")

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("value", [" ", "\n", "two words", "sécret", "line\nline", "bell\a"])
    def test_what_cannot_stand_in_a_header_is_refused_unshown(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv(name, value)
        with pytest.raises(SettingsError) as refusal:
            read_settings(ProviderSettings)
        assert name in str(refusal.value)
        assert value.isspace() or value not in str(refusal.value)

    def test_an_empty_control_token_lets_nobody_in(self) -> None:
        with pytest.raises(ValidationError):
            ServerSettings(control_token=SecretStr(""))

    def test_what_a_file_leaves_around_it_is_cut_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GHUB_PROVIDER_TOKEN", " 0123456789-a-secret\n")
        token = ProviderSettings().token
        assert token is not None
        assert token.get_secret_value() == "0123456789-a-secret"


@pytest.mark.parametrize("name", ["GHUB_PROVIDER_ENGINE__URL", "GHUB_PROVIDER_HUB_URL", "GHUB_PROVIDER_TUNNEL__URL"])
def test_a_password_in_a_url_that_others_see_is_refused_unshown(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://me:hunter2@127.0.0.1:8000")
    with pytest.raises(SettingsError, match=name) as refusal:
        read_settings(ProviderSettings)
    assert "hunter2" not in str(refusal.value)


def test_no_setting_of_a_hub_is_there_for_nothing() -> None:
    root = Path(hub.__file__).parents[1]
    read = "".join(path.read_text() for part in ("hub", "common", "ghub") for path in (root / part).rglob("*.py"))
    assert [setting for setting in HubSettings.model_fields if f".{setting}" not in read] == []
