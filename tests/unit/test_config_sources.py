"""What wins over what in a provider's settings, and where its file is looked for."""

from pathlib import Path

import pytest

import provider.config.file
from common.errors import SettingsError
from provider.config.reading import read_configuration
from provider.settings import EngineKind, ProviderSettings
from tests.unit.config_reading import read, stand_alone


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_alone(monkeypatch, tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "provider.yaml"


class TestPrecedence:
    def test_an_option_wins_over_a_variable_over_the_file_over_the_default(
        self, monkeypatch: pytest.MonkeyPatch, file: Path
    ) -> None:
        monkeypatch.setenv("GHUB_PROVIDER_NAME", "environment")
        monkeypatch.setenv("GHUB_PROVIDER_SLOTS", "2")
        configuration = read(file, "provider: {name: file, slots: 1, drain_timeout_s: 7}", {("name",): "option"})
        settings = configuration.settings
        assert (settings.name, settings.slots, settings.drain_timeout_s) == ("option", 2, 7)
        assert settings.token_timeout_s == ProviderSettings().token_timeout_s
        assert configuration.places["name",].name == "--name"
        assert configuration.places["slots",].name == "GHUB_PROVIDER_SLOTS"
        assert configuration.places["drain_timeout_s",].line == 1
        assert ("token_timeout_s",) not in configuration.places

    def test_one_key_of_a_section_leaves_the_others_of_the_file_alone(
        self, monkeypatch: pytest.MonkeyPatch, file: Path
    ) -> None:
        monkeypatch.setenv("GHUB_PROVIDER_ENGINE__PROBE_INTERVAL_S", "2")
        text = "engine: {kind: vllm, url: http://file, probe_interval_s: 1, probe_timeout_s: 3}"
        engine = read(file, text, {("engine", "url"): "http://option/v1"}).settings.engine
        assert (engine.kind, engine.url) == (EngineKind.VLLM, "http://option")
        assert (engine.probe_interval_s, engine.probe_timeout_s) == (2, 3)

    def test_options_that_were_not_given_say_nothing(self, file: Path) -> None:
        assert read(file, "provider: {slots: 3}", {("slots",): None}).settings.slots == 3

    def test_an_empty_variable_is_as_good_as_none(self, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
        monkeypatch.setenv("GHUB_PROVIDER_SLOTS", "")
        assert read(file, "provider: {slots: 3}").settings.slots == 3

    def test_an_engine_that_is_named_elsewhere_need_not_be_the_files_ollama(self, file: Path) -> None:
        text = "ollama: {url: http://ollama, probe_timeout_s: 3}"
        assert read(file, text).settings.engine.kind is EngineKind.OLLAMA
        engine = read(file, text, {("engine", "url"): "http://vllm"}).settings.engine
        assert (engine.kind, engine.url, engine.probe_timeout_s) == (EngineKind.AUTO, "http://vllm", 3)

    def test_a_variable_mends_what_the_file_says_wrong_together_with_it(
        self, monkeypatch: pytest.MonkeyPatch, file: Path
    ) -> None:
        monkeypatch.setenv("GHUB_PROVIDER_GATE__HYSTERESIS_PCT", "1")
        assert read(file, "gate: {threshold_pct: 3}").settings.gate.threshold_pct == 3


class TestWhichFile:
    def test_none_is_needed(self) -> None:
        configuration = read_configuration()
        assert (configuration.file, configuration.settings) == (None, ProviderSettings())

    def test_the_users_comes_before_the_machines(self) -> None:
        user, machine = provider.config.file.default_places()
        for place in (machine, user):
            place.parent.mkdir(parents=True)
            place.write_text(f"provider: {{name: {place.parents[1].name.lstrip('.').replace(' ', '-')}}}")
            assert read_configuration().file == place

    def test_the_variable_comes_before_both_and_the_option_before_it(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        machine = provider.config.file.SYSTEM_FILE
        machine.parent.mkdir(parents=True)
        for place, name in ((machine, "machine"), (tmp_path / "v.yaml", "variable"), (tmp_path / "o.yaml", "option")):
            place.write_text(f"provider: {{name: {name}}}")
        assert read_configuration().settings.name == "machine"
        monkeypatch.setenv("GHUB_PROVIDER_CONFIG", str(tmp_path / "v.yaml"))
        assert read_configuration().settings.name == "variable"
        assert read_configuration(tmp_path / "o.yaml").settings.name == "option"

    def test_an_empty_variable_means_no_file_at_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        machine = provider.config.file.SYSTEM_FILE
        machine.parent.mkdir(parents=True)
        machine.write_text("nonsense")
        monkeypatch.setenv("GHUB_PROVIDER_CONFIG", "")
        assert read_configuration().file is None

    @pytest.mark.parametrize("is_option", [True, False])
    def test_a_file_that_was_named_and_is_not_there_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch, file: Path, is_option: bool
    ) -> None:
        monkeypatch.setenv("GHUB_PROVIDER_CONFIG", str(file))
        with pytest.raises(SettingsError, match=r"provider\.yaml: the configuration cannot be read: No such file"):
            read_configuration(file if is_option else None)

    def test_a_folder_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="cannot be read"):
            read_configuration(tmp_path)

    def test_bytes_that_are_no_text_are_named(self, file: Path) -> None:
        file.write_bytes(b"provider:\n  name: \xff\n")
        with pytest.raises(SettingsError, match=r"provider\.yaml: not YAML: byte 19 is no UTF-8"):
            read_configuration(file)


class TestVariables:
    def test_a_misspelt_key_of_a_section_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GHUB_PROVIDER_GATE__TRESHOLD_PCT", "5")
        with pytest.raises(SettingsError) as refusal:
            read_configuration()
        assert str(refusal.value) == (
            "GHUB_PROVIDER_GATE__TRESHOLD_PCT: no such setting; did you mean GHUB_PROVIDER_GATE__THRESHOLD_PCT?"
        )

    def test_other_unknown_variables_do_no_harm(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GHUB_PROVIDER_LATER", "1")
        monkeypatch.setenv("GHUB_PROVIDER_LATER__SETTING", "1")
        assert read_configuration().settings == ProviderSettings()

    @pytest.mark.parametrize(
        ("name", "value", "path", "meant"),
        [
            ("GATE__GPUS", "0, GPU-1a", ("gate", "gpus"), (0, "GPU-1a")),
            ("GATE__GPUS", "[1]", ("gate", "gpus"), (1,)),
            ("GATE__OWN_PROCESSES", "a,b", ("gate", "own_processes"), ("a", "b")),
            ("SCHEDULE__WINDOWS", "22:00-08:00", ("schedule", "windows"), ("22:00-08:00",)),
            (
                "SCHEDULE__WINDOWS",
                "sat,sun 00:00-24:00; 22:00-08:00",
                ("schedule", "windows"),
                ("sat,sun 00:00-24:00", "22:00-08:00"),
            ),
        ],
    )
    def test_a_list_can_be_written_in_a_variable(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str, path: tuple[str, str], meant: tuple[object, ...]
    ) -> None:
        monkeypatch.setenv(f"GHUB_PROVIDER_{name}", value)
        section, key = path
        assert getattr(getattr(read_configuration().settings, section), key) == meant

    def test_a_whole_section_is_json(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GHUB_PROVIDER_ENGINE", '{"kind": "vllm", "url": 5}')
        with pytest.raises(SettingsError, match=r"^GHUB_PROVIDER_ENGINE__URL: expected an http"):
            read_configuration()
        monkeypatch.setenv("GHUB_PROVIDER_ENGINE", "http://127.0.0.1:8000")
        with pytest.raises(SettingsError, match=r"^GHUB_PROVIDER_ENGINE: expected JSON"):
            read_configuration()
