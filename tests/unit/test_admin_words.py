"""How the command line shows what a hub says, and what it makes of a hub on this machine."""

import io
import ipaddress
import json

import pytest
from rich.console import Console

from common.addresses import lan_address, with_host
from ghub.showing.tables import as_json_text, listed, plain, table_of, when


def test_names_of_other_people_s_machines_cannot_move_the_cursor() -> None:
    assert plain("gpu\x1b[2J\r\n\u202e") == "gpu?[2J???"
    assert plain("naïve-模型") == "naïve-模型"


def test_what_is_not_there_is_shown_as_nothing() -> None:
    assert [plain(value) for value in (None, "", 0, listed([]))] == ["-", "-", "0", "-"]


def test_moments_are_shown_in_utc() -> None:
    assert when(1_735_732_800_000) == "2025-01-01 12:00"
    assert when(None) is None


def test_an_address_for_others_is_none_that_only_this_machine_knows() -> None:
    found = lan_address()
    assert found is None or not ipaddress.ip_address(found).is_loopback


def test_another_host_keeps_the_port() -> None:
    assert with_host("http://127.0.0.1:8080", "10.0.0.5") == "http://10.0.0.5:8080"
    assert with_host("http://localhost", "10.0.0.5") == "http://10.0.0.5"


@pytest.mark.parametrize(
    ("width", "left_out"), [(300, []), (60, ["LANE"]), (45, ["LANE", "NODE"]), (20, ["LANE", "NODE"])]
)
def test_a_narrow_terminal_does_without_some_columns(width: int, left_out: list[str]) -> None:
    row = {"id": "f" * 32, "lane": "interactive", "node": "gpu-1", "model": "tiny:1b"}
    columns = {name.upper(): lambda one, name=name: one[name] for name in row}
    out = io.StringIO()
    Console(file=out, width=300).print(table_of([row], columns, ["LANE", "NODE"], width))
    assert [name for name in columns if name not in out.getvalue().splitlines()[0].split()] == left_out


def test_json_has_escapes_where_a_terminal_lacks_the_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding, is_escaped in (("utf-8", False), ("latin-1", True), ("no-such", True)):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        monkeypatch.setattr("sys.stdout", type("Out", (), {"encoding": encoding, "wraps": stream}))
        text = as_json_text({"model": "模型😀"})
        assert text.isascii() is is_escaped
        assert json.loads(text) == {"model": "模型😀"}
