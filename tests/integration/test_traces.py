"""Real processes that trace to a real collector: from the client's own span to what the engine is asked under."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.call import Call
from tests.support.collector import Collector, Received
from tests.support.grid import Grid, chat
from tests.support.ports import free_port
from tests.support.processes import PROJECT, Process, python, until

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
PROMPT = "a question that nobody else may read"
BLOCKER = """
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto", "google")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


def by_name(spans: list[Received]) -> dict[tuple[str, str], Received]:
    return {(one.service, one.name): one for one in spans}


@pytest.mark.timeout(60)
def test_a_clients_trace_goes_by_hub_and_provider_to_its_engine(mortal_grid: Grid, collector: Collector) -> None:
    chain = mortal_grid.chain(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="50", GHUB_LOG_FORMAT="json", slots=1
    )
    answer = Call(chain.hub, chat(PROMPT, tokens=3, stream=True), headers=TRACEPARENT).finish()
    assert answer.is_ended_once
    record = chain.engine.state()["requests"][-1]
    until(lambda: len(collector.spans) >= 5, 10, "the spans of hub and provider")
    (hub,), (provider,) = mortal_grid.hubs.values(), mortal_grid.providers.values()
    assert [provider.stop(), hub.stop()] == [0, 0]

    assert collector.paths == {"/v1/traces"}
    assert {one.trace for one in collector.spans} == {TRACE}
    found = by_name(collector.spans)
    assert len(found) == len(collector.spans) == 5
    served, asked = found["ghub-hub", "chat tiny:1b"], found["ghub-provider", "chat tiny:1b"]
    publish, process = found["ghub-hub", "publish interactive"], found["ghub-provider", "process interactive"]
    assert served.parent == SPAN
    assert publish.parent == served.span
    assert process.parent == found["ghub-hub", "wait"].parent == publish.span
    assert asked.parent == process.span
    assert record["headers"]["traceparent"] == f"00-{TRACE}-{asked.span}-01"
    request = answer.headers["x-request-id"]
    assert {one.about["ghub.request.id"] for one in (served, publish, process, asked)} == {request}
    assert (served.about["http.response.status_code"], served.about["gen_ai.usage.output_tokens"]) == (200, 3)
    assert process.instance == chain.node
    assert PROMPT not in repr(collector.spans)
    for log, word in ((hub.log, "request_ended"), (provider.log, "job_ended")):
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert served.instance in [line.get("hub") for line in lines] or log is provider.log
        assert [line["trace_id"] for line in lines if line["event"] == word] == [TRACE]


@pytest.mark.timeout(60)
def test_a_direct_call_is_a_trace_of_its_provider(mortal_grid: Grid, collector: Collector) -> None:
    chain = mortal_grid.chain(
        GHUB_TRACES_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="50",
        OTEL_SERVICE_NAME="mine",
        GHUB_PROVIDER_TRACES_CONTENT="true",
        GHUB_PROVIDER_SERVER__REQUIRE_HMAC="false",
    )
    url = mortal_grid.provider_urls[chain.node]
    answer = Call(url, chat(PROMPT, tokens=3, stream=True), headers=TRACEPARENT).finish()
    assert answer.status == 200
    assert Call(url, b"{", headers=TRACEPARENT).finish().status == 400
    until(lambda: len(collector.spans) >= 3, 10, "the spans of the provider")
    asked, served = (by_name(collector.spans)["mine", name] for name in ("chat tiny:1b", "POST /v1/chat/completions"))
    (refused,) = [one for one in collector.spans if one.about.get("error.type") == "invalid_json"]
    assert {one.trace for one in (served, asked, refused)} == {TRACE}
    assert asked.parent in {one.span for one in collector.spans if one.about.get("ghub.outcome") == "done"}
    assert served.parent == refused.parent == SPAN
    assert asked.about["ghub.request.id"] == answer.headers["x-request-id"]
    assert PROMPT in asked.about["gen_ai.input.messages"]
    assert answer.said in asked.about["gen_ai.output.messages"]


@pytest.mark.timeout(60)
def test_a_collector_that_is_away_costs_no_answer_and_holds_up_no_stop(mortal_grid: Grid) -> None:
    chain = mortal_grid.chain(GHUB_TRACES_ENDPOINT=f"http://127.0.0.1:{free_port()}", GHUB_LOG_FORMAT="json")
    assert Call(chain.hub, chat(tokens=3)).finish().status == 200
    processes = [*mortal_grid.providers.values(), *mortal_grid.hubs.values()]
    for process in processes:
        process.signal(signal.SIGTERM)
    for process in processes:
        assert process.wait(10) == 0
        events = [json.loads(line)["event"] for line in process.log.read_text().splitlines()]
        assert "traces_on" in events
        assert {"traces_unsent", "library"} & {*events}, "somebody says that the spans are lost"


def run(script: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        python("-c", script), cwd=PROJECT, env=env, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("root", ["hub.server", "provider.agent", "ghub.cli"])
def test_nothing_that_traces_is_imported_where_nobody_traces(root: str) -> None:
    """Not by importing a process' whole program, nor by opening traces that are off.

    FastAPI needs OpenTelemetry's API, and redis-py loads its metrics where they are installed.
    """
    script = (
        f"import sys, {root}\n"
        "from common.settings import SharedSettings\n"
        "from common.telemetry.switch import open_tracing\n"
        "assert not open_tracing(SharedSettings(), 's', 'i').is_on\n"
        "print(*sys.modules)\n"
    )
    ours = (
        "common.telemetry.otel",
        "opentelemetry.sdk.trace",
        "opentelemetry.exporter",
        "opentelemetry.proto",
        "google",
    )
    for how, parts in ((BLOCKER, ("opentelemetry.sdk", *ours)), ("", ours)):
        done = run(how + script)
        assert "common.telemetry.switch" in done.stdout, done.stderr
        assert not [name for name in done.stdout.split() if name.startswith(parts)]


@pytest.mark.parametrize("name", ["GHUB_TRACES", "OTEL_EXPORTER_OTLP_ENDPOINT"])
def test_without_the_extra_a_hub_says_so_and_serves(mortal_grid: Grid, tmp_path: Path, name: str) -> None:
    script = BLOCKER + "from hub.settings import HubSettings\nfrom hub.server import run\nrun(HubSettings())\n"
    port = str(free_port())
    asked = {"GHUB_TRACES": "1", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}[name]
    env = {**mortal_grid._env(), "GHUB_HUB_PORT": port, "GHUB_LOG_FORMAT": "json", name: asked}
    hub = Process("blocked hub", python("-c", script), tmp_path / "blocked.log", env)
    try:
        until(lambda: mortal_grid.status(f"http://127.0.0.1:{port}", "/health/ready") == 200, 20, hub.tail)
        assert hub.stop() == 0
    finally:
        hub.kill()
    lines = [json.loads(line) for line in hub.log.read_text().splitlines()]
    (told,) = [line for line in lines if line["event"] == "traces_off"]
    assert (told["missing"], told["hint"]) == ("opentelemetry.exporter", "install ghubai[telemetry]")
