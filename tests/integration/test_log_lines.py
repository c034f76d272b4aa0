"""A real hub and provider that log JSON: every line is an object with its request, whatever goes wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.call import CHAT, Call
from tests.support.grid import Grid, chat
from tests.support.processes import Process, python, until

JSON = {"GHUB_LOG_FORMAT": "json"}
CRASHING_HUB = """
import warnings
import hub.api.intake, hub.api.relay_response
from common.process import main
from hub.server import run
from hub.settings import HubSettings

read_body, stream = hub.api.intake.read_body, hub.api.relay_response.RelayResponse._stream

async def read_or_break(request, *limits):
    if "x-break" in request.headers:
        warnings.warn("something old", UserWarning, stacklevel=1)
        raise ZeroDivisionError("while it is read")
    return await read_body(request, *limits)

async def stream_and_break(self, sender):
    await stream(self, sender)
    raise ZeroDivisionError("while it is answered")

hub.api.intake.read_body = read_or_break
hub.api.relay_response.RelayResponse._stream = stream_and_break
raise SystemExit(main("hub", HubSettings, run))
"""


def lines_of(process: Process) -> list[dict[str, Any]]:
    """Everything that a process said; AssertionError if a line of it is no event."""
    lines = []
    for line in process.log.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            raise AssertionError(f"{process.name} said a line that is no JSON: {line!r}") from None
        assert {"timestamp", "level", "event"} <= lines[-1].keys(), line
    return lines


def events_of(lines: list[dict[str, Any]], request: str) -> list[str]:
    return [line["event"] for line in lines if line.get("request") == request]


@pytest.mark.timeout(90)
def test_every_line_of_a_hub_and_a_provider_is_an_event(mortal_grid: Grid) -> None:
    """From start to stop, over a broker that fails, an engine that fails, and a direct call."""
    chain = mortal_grid.chain(GHUB_LOG_LEVEL="DEBUG", GHUB_PROVIDER_SERVER__REQUIRE_HMAC="false", **JSON)
    answers = [
        Call(chain.hub, chat(tokens=2, stream=True)).finish(),
        Call(chain.hub, chat(double={"status": 500, "error_body": "broken"})).finish(),
        Call(mortal_grid.provider_urls[chain.node], chat(tokens=2)).finish(),
    ]
    mortal_grid.broker.kill()
    until(lambda: Call(chain.hub, chat()).finish().status == 503, 20, "the broker is missed")
    mortal_grid.broker.start()
    until(lambda: Call(chain.hub, chat(tokens=2)).finish().status == 200, 30, "it is back")
    (hub,), (provider,) = mortal_grid.hubs.values(), mortal_grid.providers.values()
    assert [provider.stop(), hub.stop()] == [0, 0]

    at_hub, at_node = lines_of(hub), lines_of(provider)
    streamed, failed, direct = (answer.headers["x-request-id"] for answer in answers)
    assert events_of(at_hub, streamed) == ["request_ended"]
    assert events_of(at_node, streamed) == ["job_claimed", "job_ended"]
    assert events_of(at_hub, failed).count("requeued") == 2
    assert events_of(at_node, failed) == ["job_claimed", "attempt_failed", "job_ended"] * 3
    assert events_of(at_node, direct) == ["direct_call_ended"]
    for lines, words in (
        (at_hub, {"hub_started", "broker_unavailable", "draining", "hub_stopped"}),
        (at_node, {"provider_started", "broker_unavailable", "draining", "provider_stopped"}),
    ):
        assert words <= {line["event"] for line in lines}
    assert not [line for line in at_hub + at_node if "trace_id" in line], "nothing is traced"


@pytest.mark.timeout(60)
def test_a_crash_in_a_handler_is_a_line_with_its_traceback(mortal_grid: Grid, tmp_path: Path) -> None:
    chain = mortal_grid.chain(**JSON)
    env = {**mortal_grid._env(), "GHUB_HUB_PORT": "0", **JSON}
    hub = Process("breaking hub", python("-c", CRASHING_HUB), tmp_path / "breaking.log", env)
    try:
        until(lambda: "hub_started" in hub.tail(), 20, hub.tail)
        (url,) = [line["url"] for line in lines_of(hub) if line["event"] == "hub_started"]
        mortal_grid.wait_for_model(url, "tiny:1b")
        assert Call(url, chat(), headers={"x-break": "1"}).finish().status == 500
        request = Call(url, chat(tokens=2, stream=True)).finish().headers["x-request-id"]
        until(lambda: "Exception in ASGI" in hub.tail(), 10, hub.tail)
        assert Call(url, chat(tokens=2)).finish().status == 200
        assert chain.node in mortal_grid.providers
        assert hub.stop() == 0
    finally:
        hub.kill()
    lines = lines_of(hub)
    (crash,) = [line for line in lines if line["event"] == "handler_crashed"]
    assert (crash["path"], crash["level"]) == (CHAT, "error")
    assert crash["exception"].endswith("ZeroDivisionError: while it is read")
    (warned,) = [line for line in lines if line.get("logger") == "py.warnings"]
    assert "something old" in warned["message"]
    (answering,) = [line for line in lines if line.get("logger") == "uvicorn.error"]
    assert answering["exception"].endswith("ZeroDivisionError: while it is answered")
    assert answering["request"] == request
    (ended,) = [line for line in lines if line["event"] == "request_ended" and line["request"] == request]
    assert ended["error"] == "internal_error"


@pytest.mark.parametrize(
    ("module", "wrong"),
    [
        ("hub", {"GHUB_HUB_PORT": "x"}),
        ("provider", {"GHUB_PROVIDER_SLOTS": "0"}),
        ("hub", {"GHUB_HUB_HOST": "192.0.2.1"}),
    ],
    ids=["hub", "provider", "address"],
)
def test_why_a_process_does_not_start_is_a_line_too(
    mortal_grid: Grid, tmp_path: Path, module: str, wrong: dict[str, str]
) -> None:
    env = {**mortal_grid._env(), "GHUB_PROVIDER_CONFIG": "", **JSON, **wrong}
    process = Process(module, python("-m", module), tmp_path / "wrong.log", env)
    assert process.wait(20) == 2
    line = lines_of(process)[-1]
    assert (line["event"], line["level"], line["process"]) == ("process_failed", "error", f"ghub {module}")
    assert any(word in line["error"] for word in (*wrong, *wrong.values()))


def test_the_command_line_says_so_in_the_same_form(mortal_grid: Grid, tmp_path: Path) -> None:
    env = {**mortal_grid._env(), "GHUB_HUB_MAX_QUEUE": "0", **JSON}
    process = Process("ghub", python("-m", "ghub", "hub"), tmp_path / "command.log", env)
    assert process.wait(30) == 2
    assert [line["event"] for line in lines_of(process)] == ["process_failed"]
