"""docs/reference.md is made from what hubs and providers say of themselves and must not lag behind."""

import os
import re
from types import ModuleType

import pytest

from tests.support.generators import generator_of
from tests.support.processes import PROJECT

DOCS = PROJECT / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    return generator_of("reference")


@pytest.fixture(scope="module")
def page(generator: ModuleType) -> str:
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("GHUB_"):
                patch.delenv(name)
        return str(generator.page())


def test_the_page_is_what_hubs_and_providers_say(page: str) -> None:
    assert (DOCS / "reference.md").read_text() == page


def test_every_route_is_told_in_words(page: str) -> None:
    beginnings = re.findall(r"^#### `(.+)`\n\n(.*)", page, flags=re.MULTILINE)
    assert len(beginnings) > 50
    assert [route for route, text in beginnings if not text or text.startswith(("|", "-", "#"))] == []


def test_who_may_call_is_what_the_hub_says_to_strangers(page: str) -> None:
    who = dict(re.findall(r"^#### `(\S+ \S+)`\n(?:(?!####).)*?^- Who: \*\*(\w+)", page, re.MULTILINE | re.DOTALL))
    assert who["GET /health"] == "anybody"
    assert who["POST /v1/chat/completions"] == "client"
    assert who["POST /api/provider/register"] == "provider"
    assert {who[route] for route in who if route.split()[1].startswith(("/api/keys", "/api/nodes"))} == {"operator"}


def test_no_error_is_told_of_a_route_or_under_a_code_that_is_not_there(generator: ModuleType, page: str) -> None:
    told = (DOCS / "api.md").read_text() + (DOCS / "operations.md").read_text()
    for route, codes in generator.CODES.items():
        assert f"#### `{route}`\n" in page
        assert all(f"`{code}`" in told for code in re.findall(r"`(\w+)`", codes)), route
