"""The real openai package of npm against the real stack: what JavaScript does with nothing changed but the URL."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import RealGrid
from tests.support.llamacpp import MODEL
from tests.support.tools import npm_package, tool

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]

PACKAGE = "openai@7"
SCRIPT = Path(__file__).with_name("openai_npm.mjs")
RUN_LIMIT_S = 60


@pytest.fixture(scope="module")
def told(real_grid: RealGrid, pytestconfig: pytest.Config) -> dict[str, Any]:
    """What the script heard."""
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("openai-npm")
    npm_package(PACKAGE, folder)
    argv = [tool("node", "nodejs"), str(SCRIPT), real_grid.hub_url, MODEL]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(json.loads(done.stdout))


def test_models_are_listed(told: dict[str, Any]) -> None:
    assert told["models"] == [MODEL]


def test_a_chat_says_whole_and_streamed_the_same(told: dict[str, Any]) -> None:
    assert told["whole"]["text"] == "".join(told["pieces"]) != ""
    assert told["whole"]["tokens"] > 0
    assert len([piece for piece in told["pieces"] if piece]) > 3


def test_completions_come(told: dict[str, Any]) -> None:
    assert told["completion"]


def test_responses_come_whole_and_event_by_event(told: dict[str, Any]) -> None:
    assert told["response"]
    assert told["streamed"]
    assert (told["events"][0], told["events"][-1]) == ("response.created", "response.completed")


def test_errors_are_those_that_the_package_knows(told: dict[str, Any]) -> None:
    assert told["errors"] == {
        "unknown": ["NotFoundError", 404, "model_not_found"],
        "wrong": ["BadRequestError", 400, "invalid_type"],
        "embeddings": ["NotFoundError", 404, "endpoint_not_supported"],
        "speech": ["NotFoundError", 404, "unknown_url"],
    }


def test_leaving_a_stream_frees_the_slot(told: dict[str, Any], idle: Callable[[float], None]) -> None:
    assert told
    idle(2.0)
