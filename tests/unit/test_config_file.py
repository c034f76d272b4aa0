"""A provider's file: what it may say, and how everything that is wrong with it is told at once."""

from pathlib import Path

import pytest

from common.errors import SettingsError
from provider.config.layout import KEYS, LAYOUT, field_at
from provider.settings import EngineKind, ProviderSettings, UnknownPolicy
from tests.unit.config_reading import read, refused, stand_alone


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_alone(monkeypatch, tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "provider.yaml"


SECRET = "0123456789-a-secret"


class TestSections:
    def test_the_form_that_owners_know_is_understood(self, file: Path) -> None:
        settings = read(
            file,
            """
server:
  host: 0.0.0.0
  port: 8090
ollama:
  url: http://127.0.0.1:11434
provider:
  name: gpu-1
  api_key: a-token
  url: https://hub.example.org
ngrok:
  url: https://me.ngrok.app
gate:
  threshold_pct: 30
  unknown: never
  gpus: [0, GPU-1a]
schedule:
  windows:
    - 22:00-08:00
    - sat,sun 00:00-24:00
  timezone: Europe/Amsterdam
redis:
  url: redis://broker:6379/1
  prefix: "lab:"
log:
  format: json
  level: DEBUG
""",
        ).settings
        assert (settings.server.host, settings.server.port) == ("0.0.0.0", 8090)
        assert (settings.engine.kind, settings.engine.url) == (EngineKind.OLLAMA, "http://127.0.0.1:11434")
        assert (settings.name, settings.hub_url) == ("gpu-1", "https://hub.example.org")
        assert settings.token is not None
        assert settings.token.get_secret_value() == "a-token"
        assert settings.tunnel.url == "https://me.ngrok.app"
        assert (settings.gate.threshold_pct, settings.gate.unknown) == (30, UnknownPolicy.NEVER)
        assert settings.gate.gpus == (0, "GPU-1a")
        assert settings.schedule.windows == ("22:00-08:00", "sat,sun 00:00-24:00")
        assert (settings.redis_url, settings.prefix) == ("redis://broker:6379/1", "lab:")
        assert (settings.log_format, settings.log_level) == ("json", "DEBUG")

    def test_an_engine_of_any_kind_has_a_section_of_its_own(self, file: Path) -> None:
        engine = read(file, f"engine: {{kind: vllm, url: http://gpu:8000/v1/, api_key: {SECRET}}}").settings.engine
        assert (engine.kind, engine.url) == (EngineKind.VLLM, "http://gpu:8000")
        assert engine.api_key is not None
        assert engine.api_key.get_secret_value() == SECRET

    @pytest.mark.parametrize(
        "text", ["", "# nothing", "---\n", "gate:\nengine: {}\nprovider: ~\n", "provider:\n  name:\n"]
    )
    def test_what_is_empty_leaves_the_defaults(self, file: Path, text: str) -> None:
        assert read(file, text).settings == ProviderSettings()

    @pytest.mark.parametrize(("key", "path"), KEYS.items())
    def test_every_key_reaches_its_setting(self, file: Path, key: str, path: tuple[str, ...]) -> None:
        section, _, name = key.partition(".")
        value = (field_at(path).examples or [None])[0] or _other_than_default(path)
        configuration = read(file, f"{section}: {{{name}: {value}}}")
        found: object = configuration.settings
        for part in path:
            found = getattr(found, part)
        assert found != field_at(path).default
        assert configuration.places[path].line == 1

    def test_every_setting_has_a_key(self) -> None:
        flat = {path[0] for path in LAYOUT.values()}
        assert flat == set(ProviderSettings.model_fields)

    def test_second_names_mean_the_same(self, file: Path) -> None:
        settings = read(file, "provider: {token: a-token, hub_url: http://hub}").settings
        assert settings.token is not None
        assert (settings.token.get_secret_value(), settings.hub_url) == ("a-token", "http://hub")

    @pytest.mark.parametrize(
        ("text", "line", "words"),
        [
            ("ollama: {url: http://a}\nengine: {kind: vllm}\n", 2, "ollama and engine: only one"),
            ("tunnel: {url: http://a}\nngrok: {url: http://b}\n", 2, "ngrok and tunnel: only one"),
            ("provider:\n  token: a\n  api_key: b\n", 3, "provider.api_key: the same as in line 2"),
        ],
    )
    def test_two_names_for_one_thing_are_refused(self, file: Path, text: str, line: int, words: str) -> None:
        [mistake] = refused(file, text)
        assert mistake.startswith(f"{line}: {words}")


class TestValues:
    @pytest.mark.parametrize(
        ("text", "mistake"),
        [
            ("server: {port: yes}", "server.port: expected a whole number from 0 to 65535, found 'yes'"),
            ("server: {port: true}", "server.port: expected a whole number from 0 to 65535, found true"),
            ("server: {port: 65536}", "server.port: expected a whole number from 0 to 65535, found 65536"),
            ("server: {port: [1]}", "server.port: expected a whole number from 0 to 65535, found [1]"),
            ("server: {host: 1}", "server.host: expected text (a number stands in quotes), found 1"),
            ("gate: {threshold_pct: twenty}", "gate.threshold_pct: expected a number from 0 to 100, found 'twenty'"),
            ("gate: {threshold_pct: false}", "gate.threshold_pct: expected a number from 0 to 100, found false"),
            ("gate: {gpus: [true]}", "gate.gpus: expected a list such as [0], found [True]"),
            ("gate: {unknown: often}", "gate.unknown: expected one of assume-idle, slots-only, never, found 'often'"),
            ("gate: {check_memory: 2}", "gate.check_memory: expected true or false, found 2"),
            ("gate: {own_processes: {a: b}}", "gate.own_processes: expected a list of texts, found keys"),
            (
                "ollama: {url: localhost:11434}",
                "ollama.url: expected an http:// or https:// URL, found 'localhost:11434'",
            ),
            ("provider: {slots: 0}", "provider.slots: expected a whole number from 1 to 4096, found 0"),
            ("provider: {token_timeout_s: 1e999}", "provider.token_timeout_s: expected a number above 0, found inf"),
            (
                "redis: {prefix: a b}",
                "redis.prefix: expected 1 to 40 characters without spaces and braces, found 'a b'",
            ),
            ("log: {level: LOUD}", "log.level: expected one of DEBUG, INFO, WARNING, ERROR, found 'LOUD'"),
        ],
    )
    def test_what_was_found_and_what_was_expected(self, file: Path, text: str, mistake: str) -> None:
        assert refused(file, f"\n{text}\n") == [f"2: {mistake}"]

    def test_a_name_says_what_it_may_be_made_of(self, file: Path) -> None:
        [mistake] = refused(file, "provider: {name: 'a:b'}")
        assert mistake.startswith("1: provider.name: letters, digits")

    def test_a_window_that_is_none_is_quoted(self, file: Path) -> None:
        [mistake] = refused(file, "schedule:\n  windows: [mun 22:00-08:00]\n")
        assert mistake.startswith("2: schedule.windows: ")
        assert "mun" in mistake

    def test_a_timezone_must_exist(self, file: Path) -> None:
        [mistake] = refused(file, "schedule: {timezone: Europe/Atlantis}")
        assert mistake.startswith("1: schedule.timezone: ")
        assert "Atlantis" in mistake

    def test_the_hysteresis_may_not_exceed_the_threshold(self, file: Path) -> None:
        [mistake] = refused(file, "gate:\n  threshold_pct: 10\n  hysteresis_pct: 11\n")
        assert mistake.startswith("3: gate.hysteresis_pct: it may be at most threshold_pct, 10")

    def test_nor_may_its_default(self, file: Path) -> None:
        [mistake] = refused(file, "gate:\n  threshold_pct: 4\n")
        assert mistake.startswith("2: gate.threshold_pct: hysteresis_pct has to be set too")


class TestUnknownKeys:
    @pytest.mark.parametrize(
        ("text", "start"),
        [
            (
                "gate: {treshold_pct: 5}",
                "gate.treshold_pct: no such key; did you mean threshold_pct?; gate has threshold_",
            ),
            (
                "gates: {threshold_pct: 5}",
                "gates: no such section; did you mean gate?; there are provider, engine, gate",
            ),
            ("engine: {name: x}", "engine.name: no such key; did you mean provider.name?"),
            ("port: 8081", "port: no such section; did you mean "),
            ("slots: 4", "slots: no such section; did you mean provider.slots?"),
            ("ollama: {kind: vllm}", "ollama.kind: no such key"),
            ("provider.name: x", "provider.name: no such section"),
            ("gates:", "gates: no such section; did you mean gate?"),
            ("gate: {treshold_pct: }", "gate.treshold_pct: no such key"),
            ("8081: {}", "8081: no such section"),
        ],
    )
    def test_they_are_refused_with_what_was_perhaps_meant(self, file: Path, text: str, start: str) -> None:
        [mistake] = refused(file, text)
        assert mistake.startswith(f"1: {start}")

    def test_a_section_is_told_once_however_many_keys_it_has(self, file: Path) -> None:
        assert len(refused(file, "gates:\n  a: 1\n  b: 2\n  c: 3\n")) == 1


class TestAllAtOnce:
    def test_every_mistake_of_the_file_is_one_line_in_its_order(self, file: Path) -> None:
        text = "server: {port: yes}\ngates: {a: 1}\ngate:\n  treshold_pct: 5\n  unknown: often\nprovider: {slots: x}\n"
        mistakes = refused(file, text)
        assert [mistake.split(":")[0] for mistake in mistakes] == ["1", "2", "4", "5", "6"]

    def test_those_of_variables_and_options_are_among_them(self, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
        monkeypatch.setenv("GHUB_PROVIDER_ENGINE__KIND", "magic")
        with pytest.raises(SettingsError) as refusal:
            read(file, "server: {port: yes}", {("slots",): 0})
        lines = str(refusal.value).splitlines()
        assert len(lines) == 3
        assert "--slots: expected a whole number from 1 to 4096, found 0" in lines
        assert any(line.startswith("GHUB_PROVIDER_ENGINE__KIND: expected one of auto, ollama") for line in lines)

    def test_a_value_that_something_else_wins_over_is_not_looked_at(self, file: Path) -> None:
        assert read(file, "server: {port: yes}", {("server", "port"): 1}).settings.server.port == 1


def _other_than_default(path: tuple[str, ...]) -> object:
    """A value that this setting may have and has not by itself."""
    default = field_at(path).default
    if isinstance(default, bool):
        return str(not default).lower()
    if isinstance(default, int | float):
        return default * 2 if path[-1] != "hysteresis_pct" else default / 2
    others = {
        "redis_url": "redis://other",
        "prefix": "other",
        "log_format": "json",
        "log_level": "DEBUG",
        "kind": "vllm",
        "own_processes": "[other]",
        "windows": '["22:00-08:00"]',
        "timezone": "Europe/Amsterdam",
        "host": "0.0.0.0",
    }
    return others[path[-1]]
