"""How the command line shows what a hub says, and what it makes of a hub on this machine."""

import ipaddress

from ghub.admin.lan import lan_address, with_host
from ghub.admin.tables import listed, plain, when


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
