"""What people look up stands on its page: reasons, engines, paths and the codes of errors."""

import ast
from collections.abc import Iterator

import pytest

from common.endpoints import ENDPOINTS
from common.reasons import Reason
from hub.errors import Forbidden, RequestFailed
from provider.protocol.failures import CODES
from provider.settings import EngineKind
from tests.support.processes import PROJECT

DOCS = PROJECT / "docs"


def missing(page: str, words: Iterator[str]) -> list[str]:
    text = (DOCS / page).read_text()
    return [word for word in sorted(set(words)) if f"`{word}`" not in text]


@pytest.mark.parametrize("page", ["provider.md", "keyspace.md"])
def test_every_reason(page: str) -> None:
    assert missing(page, iter(Reason)) == []


@pytest.mark.parametrize("page", ["provider.md", "traces.md"])
def test_every_engine(page: str) -> None:
    assert missing(page, (kind for kind in EngineKind if kind is not EngineKind.AUTO)) == []


@pytest.mark.parametrize("page", ["provider.md"])
def test_every_path_that_reaches_an_engine(page: str) -> None:
    assert missing(page, iter(ENDPOINTS)) == []


def test_every_code_of_a_failed_attempt() -> None:
    codes = {*codes_of_failures(), *CODES.values()}
    assert {"engine_bad_answer", "provider_error"} <= codes
    assert missing("api.md", iter(codes)) == []


def test_every_code_of_a_refusal() -> None:
    codes = {*codes_of_refusals()} - {Forbidden.code}  # who raises that one says another
    assert {"queue_full", "no_direct_node"} <= codes
    assert {*missing("api.md", iter(codes))} & {*missing("operations.md", iter(codes))} == set()


def codes_of_refusals() -> Iterator[str]:
    """What a hub says itself: of a class of error, or where it is raised."""
    classes: list[type[RequestFailed]] = [RequestFailed]
    for error in classes:
        if error.__module__.startswith("hub."):  # others are of processes that stand before hubs
            yield error.code
        classes += error.__subclasses__()
    for path in (PROJECT / "hub").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "code" and isinstance(node.value, ast.Constant):
                yield str(node.value.value)


def codes_of_failures() -> Iterator[str]:
    """The second word of each `Failure(status, code, …)` of a provider."""
    for path in (PROJECT / "provider").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Failure":
                code = node.args[1] if len(node.args) > 1 else None
                if isinstance(code, ast.Constant):
                    yield str(code.value)
