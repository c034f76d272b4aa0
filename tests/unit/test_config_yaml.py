"""A provider's file as YAML: traps that are none here, nonsense with its place, and secrets that stay hidden."""

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provider.config.layout import KEYS, is_secret
from provider.config.reading import read_configuration
from provider.config.yaml import read_yaml
from tests.unit.config_reading import read, refused, stand_alone


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_alone(monkeypatch, tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "provider.yaml"


SECRET = "0123456789-a-secret"


class TestForm:
    @pytest.mark.parametrize(
        ("text", "start"),
        [
            ("gate:\n\tthreshold_pct: 1\n", "2: not YAML (column 1): a tab"),
            ("gate:\n  threshold_pct: 1: 2\n", "2: not YAML (column 19)"),
            ("gate: {\n", "2: not YAML"),
            ("provider: 'x\n", "2: not YAML"),
            ("a: 1\n---\nb: 2\n", "2: not YAML (column 1): a second document"),
            ("- gate\n", "1: expected sections such as 'engine:', found a list"),
            ("gate\n", "1: expected sections such as 'engine:', found a single value"),
            ("gate: 20\n", "1: gate: expected keys, one a line below it, found a single value"),
            ("gate: [1]\n", "1: gate: expected keys, one a line below it, found a list"),
            ("gate:\n  threshold_pct: 30\n  threshold_pct: 40\n", "3: gate.threshold_pct: it stands in line 2 already"),
            ("gate:\n  yield_after_s: 1\ngate:\n  idle_after_s: 2\n", "3: gate: it stands in line 1 already"),
            ("gate:\n  [1]: 2\n", "2: gate.?: expected a name, found a list"),
            ("gate:\n  gpus: !mine x\n", "2: gate.gpus: it is of no kind that is known here"),
            ("gate:\n  gpus: *all\n", "2: not YAML (column 9): a value that begins with * or & must stand in quotes"),
        ],
    )
    def test_what_is_no_yaml_is_told_with_its_place(self, file: Path, text: str, start: str) -> None:
        [mistake] = refused(file, text)
        assert mistake.startswith(start)

    @pytest.mark.parametrize("name", ["on", "yes", "no", "007", "0x10", "12e", "1_000", "2020-01-01"])
    def test_a_name_is_what_it_looks_like(self, file: Path, name: str) -> None:
        assert read(file, f"provider:\n  name: {name}\n").settings.name == name

    def test_a_time_is_no_number_of_minutes(self, file: Path) -> None:
        windows = read(file, "schedule:\n  windows: [22:00-08:00, mon 12:00-13:30]\n").settings.schedule.windows
        assert windows == ("22:00-08:00", "mon 12:00-13:30")
        [mistake] = refused(file, "schedule:\n  windows: 22:00\n")
        assert mistake.startswith("2: schedule.windows: ")
        assert "22:00" in mistake
        assert "1320" not in mistake

    @pytest.mark.parametrize(("said", "meant"), [("yes", True), ("on", True), ("true", True), ("off", False)])
    def test_a_switch_takes_the_usual_words(self, file: Path, said: str, meant: bool) -> None:
        assert read(file, f"gate: {{yield_to_owner: {said}}}").settings.gate.yield_to_owner is meant

    def test_a_number_may_stand_in_quotes(self, file: Path) -> None:
        assert read(file, 'server: {port: "8081"}').settings.server.port == 8081

    @pytest.mark.parametrize(
        "tag", ["bool", "int", "float", "timestamp", "binary", "omap", "set", "python/object:os.system"]
    )
    def test_a_tag_on_a_value_that_is_none_of_it_is_a_mistake(self, file: Path, tag: str) -> None:
        [mistake] = refused(file, f"provider:\n  name: !!{tag} x.y\n")
        assert mistake.startswith("2: provider.name: ")

    def test_a_bottomless_file_is_a_mistake(self, file: Path) -> None:
        [mistake] = refused(file, "gate: " + "[" * 5000)
        assert "not YAML" in mistake

    @given(st.text(alphabet="ab:-[]{}&*!?|>'\"%@#, \n\t\x00<~0.", max_size=60))
    @example("a: !!int")
    @example("a:\n  b: !!timestamp x")
    def test_whatever_stands_there_is_read_or_named(self, text: str) -> None:
        entries, mistakes = read_yaml(text)
        assert all(one.line >= 1 and one.text for one in mistakes)
        assert all(entry.line >= 1 for entry in entries)

    def test_an_anchor_can_be_used_again(self, file: Path) -> None:
        report = read(file, "report:\n  interval_s: &long 60\n  timeout_s: *long\n").settings.report
        assert (report.interval_s, report.timeout_s) == (60, 60)


class TestSecrets:
    @pytest.mark.parametrize("key", [key for key, path in KEYS.items() if is_secret(path)])
    @pytest.mark.parametrize("shape", ["[{}]", "{{a: {}}}", "{{{}: a}}"])
    def test_a_secret_of_a_wrong_form_is_not_shown(self, file: Path, key: str, shape: str) -> None:
        section, _, name = key.partition(".")
        [mistake] = refused(file, f"{section}:\n  {name}: {shape.format(SECRET)}\n")
        assert mistake.startswith(f"2: {key}: expected text")
        assert SECRET not in mistake

    @pytest.mark.parametrize(
        "text",
        [
            f"provider:\n  api_key: *{SECRET}\n",
            f"provider:\n  api_key: !{SECRET} x\n",
            f"provider:\n  api_key: {SECRET}: x\n",
            f"provider:\n  api_key: '{SECRET}\n",
            f"provider:\n  api_key: [{SECRET}\n",
            f"provider:\n  api_key: @{SECRET}\n",
            f"provider: {SECRET}\n",
            f"tokens: {SECRET}\n",
            f"provider: {{tokn: {SECRET}}}\n",
            f"{SECRET}",
            f"provider:\n  api_key: a\n  api_key: {SECRET}\n",
            f"provider:\n  api_key: {SECRET}\n  token: {SECRET}\n",
            f"redis: {{url: ['redis://me:{SECRET}@broker']}}\n",
            f"ollama: {{url: 'ftp://me:{SECRET}@engine'}}\n",
            f"tunnel: {{url: 'ftp://me?token={SECRET}'}}\n",
        ],
    )
    def test_no_mistake_near_it_shows_it_either(self, file: Path, text: str) -> None:
        for mistake in refused(file, text):
            assert SECRET not in mistake

    @pytest.mark.skipif(os.name == "nt", reason="modes of files are POSIX's")
    @pytest.mark.parametrize(
        ("text", "mode", "is_exposed"),
        [
            ("provider: {api_key: a-token}", 0o644, True),
            ("engine: {api_key: a-key}", 0o640, True),
            ("provider: {api_key: a-token}", 0o600, False),
            ("provider: {api_key: a-token}", 0o400, False),
            ("provider: {name: a}", 0o644, False),
        ],
    )
    def test_a_file_with_a_secret_that_others_can_read_is_noticed(
        self, file: Path, text: str, mode: int, is_exposed: bool
    ) -> None:
        file.write_text(text)
        file.chmod(mode)
        assert read_configuration(file).is_exposed is is_exposed
