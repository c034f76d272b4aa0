"""Values that only another part of the program can judge are refused with all others: by their place, before anything
starts."""

from pathlib import Path

import pytest

from common.errors import SettingsError
from provider.config.reading import read_configuration
from tests.unit.config_reading import read, refused, stand_alone

SHORT = "k1:tooshort"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_alone(monkeypatch, tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "provider.yaml"


def test_a_url_of_no_broker_a_short_key_and_a_gpu_that_cannot_be_are_told_at_once(file: Path) -> None:
    text = f"redis: {{url: http://broker}}\nprovider: {{signing_key: '{SHORT}'}}\ngate: {{gpus: [-1]}}\n"
    assert refused(file, text) == [
        "1: redis.url: http:// is not one of redis://, rediss://, unix://, redis+sentinel://, redis+cluster://",
        "2: provider.signing_key: each key is id:secret with at least 16 characters of secret",
        "3: gate.gpus: expected a list such as [0], found -1",
    ]


@pytest.mark.parametrize("url", ["broker:6379", "//broker", "redis://broker:port/0", ""])
def test_a_broker_s_url_must_be_one(file: Path, url: str) -> None:
    (mistake,) = refused(file, f"redis: {{url: '{url}'}}")
    assert mistake.startswith("1: redis.url: ")


@pytest.mark.parametrize("url", ["redis://broker", "rediss://user:word@broker:6380/1", "unix:///run/valkey.sock?db=2"])
def test_each_kind_of_broker_s_url_is_taken(file: Path, url: str) -> None:
    assert read(file, f"redis: {{url: '{url}'}}").settings.redis_url == url


def test_a_wrong_key_and_a_wrong_url_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GHUB_SIGNING_KEY", SHORT)
    monkeypatch.setenv("GHUB_REDIS_URL", "http://user:passw0rd@broker")
    with pytest.raises(SettingsError) as refusal:
        read_configuration()
    assert "GHUB_SIGNING_KEY: " in str(refusal.value)
    assert "tooshort" not in str(refusal.value)
    assert "passw0rd" not in str(refusal.value)


def test_an_empty_option_reads_no_file_as_an_empty_variable_does(tmp_path: Path) -> None:
    usual = tmp_path / "config" / "ghubai" / "provider.yaml"
    usual.parent.mkdir(parents=True, exist_ok=True)
    usual.write_text("provider: {name: from-the-file}\n")
    assert read_configuration(Path()).file is None
