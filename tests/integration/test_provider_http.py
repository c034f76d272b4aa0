"""What a provider answers on its own machine, and what of it the hub holds."""

import http.client
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.doubles.reading import numbered
from tests.support.call import Answer, Call, get
from tests.support.grid import Grid, chat
from tests.support.nvml import StubGpu, StubNvml
from tests.support.pair import Pair
from tests.support.processes import until

TOKEN = "provider-token-of-the-tests"
HUB = {"GHUB_HUB_PROVIDER_TOKENS": f"another-token-of-the-tests,{TOKEN}"}
CONTROL = {"x-ghub-control": "1"}
FIGURES = StubGpu(
    name="NVIDIA Test 9000",
    uuid="GPU-0000-test",
    utilization_pct=7,
    memory_used_mib=1234,
    memory_total_mib=16_384,
    temperature_c=51,
    power_w=87.5,
)


@pytest.fixture(scope="module")
def hub(module_grid: Grid) -> str:
    return module_grid.hub(**HUB)


@pytest.fixture
def told(gpu: StubNvml) -> StubNvml:
    gpu.set(FIGURES, driver_version="570.86.10", cuda_version="12.8")
    return gpu


@pytest.fixture
def provider(make_pair: Callable[..., Pair], told: StubNvml, hub: str) -> Iterator[tuple[Pair, str]]:
    """A node whose GPU is the stub, which reports to the hub; and its own URL."""
    pair = make_pair(
        GHUB_PROVIDER_TOKEN=TOKEN,
        GHUB_PROVIDER_HUB_URL=hub,
        GHUB_PROVIDER_TUNNEL__URL="https://one.example.net",
        GHUB_PROVIDER_REPORT__MIN_GAP_S="0.2",
        **told.env,
    )
    return pair, pair.grid.provider_urls[pair.first_node]


def registered(hub: str, node: str) -> dict[str, Any]:
    nodes = {one["node"]: one for one in get(hub, "/api/registry").json["nodes"]}
    found: dict[str, Any] = nodes.get(node, {})
    return found


def test_health_is_the_documented_report_with_the_gpu_s_figures(provider: tuple[Pair, str]) -> None:
    pair, url = provider
    answer = get(url, "/health")
    assert answer.status == 200
    report = answer.json
    assert report["node"] == pair.first_node
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", report["version"])
    assert (report["state"], report["reasons"]) == ("idle", [])
    assert report["gpu_count"] == 1
    assert report["gpus"] == [
        {
            "name": "NVIDIA Test 9000",
            "uuid": "GPU-0000-test",
            "driver_version": "570.86.10",
            "cuda_version": "12.8",
            "memory_used_mib": 1234,
            "memory_total_mib": 16_384,
            "utilization_pct": 7,
            "temperature_c": 51,
            "power_w": 87.5,
        }
    ]
    assert [model["id"] for model in report["models"]] == [pair.model]
    assert set(report["models"][0]) == {"id", "size_bytes", "digest", "loaded"}
    assert report["engine"]["kind"] == "openai"
    assert report["engine"]["url"] == pair.first.url
    assert {"chat", "completions"} <= set(report["engine"]["capabilities"])
    assert report["public_url"] == "https://one.example.net"
    assert (report["slots"], report["running"]) == (4, 0)


def test_busy_says_why_and_how_busy(provider: tuple[Pair, str], told: StubNvml) -> None:
    _, url = provider
    assert get(url, "/busy").json == {"busy": False, "reasons": [], "utilization_pct": 7}
    told.set(StubGpu(utilization_pct=85))
    until(lambda: get(url, "/busy").json["busy"], 5, lambda: get(url, "/busy").text)
    assert get(url, "/busy").json == {"busy": True, "reasons": ["gpu-busy"], "utilization_pct": 85}


def test_busy_tells_when_every_slot_is_taken(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair(GHUB_PROVIDER_SLOTS="1")
    url = pair.grid.provider_urls[pair.first_node]
    call = pair.ask_first(tokens=1000, stream=True, double={"delay_ms": 20})
    assert get(url, "/busy").json == {"busy": True, "reasons": ["no-free-slot"], "utilization_pct": None}
    assert get(url, "/health").json["running"] == 1
    call.close()
    until(lambda: not get(url, "/busy").json["busy"], 5, lambda: get(url, "/busy").text)
    pair.is_at_rest()


def test_the_hub_holds_the_latest_report_of_each_node(provider: tuple[Pair, str], told: StubNvml, hub: str) -> None:
    pair, url = provider
    node = pair.first_node
    until(lambda: (registered(hub, node).get("report") or {}).get("state") == "idle", 5, lambda: registered(hub, node))
    shown = registered(hub, node)
    assert shown["report"]["gpus"] == get(url, "/health").json["gpus"]
    assert shown["report"]["reported_at"] > 0
    assert shown["gpus"] == shown["report"]["gpus"], "the node's own entry has them too"
    assert shown["public_url"] == "https://one.example.net"
    told.set(StubGpu(utilization_pct=85))
    until(
        lambda: registered(hub, node)["report"]["reasons"] == ["gpu-busy"], 5, lambda: registered(hub, node)["report"]
    )


def test_a_hub_that_takes_no_report_disturbs_no_job(make_pair: Callable[..., Pair], hub: str) -> None:
    pair = make_pair(GHUB_PROVIDER_TOKEN="not-a-token-of-this-hub", GHUB_PROVIDER_HUB_URL=hub)
    until(lambda: "report_failed" in pair.provider.tail(), 5, pair.provider.tail)
    assert pair.call().finish().said == numbered(0, 5)
    assert "not-a-token-of-this-hub" not in pair.provider.tail(100_000)


def test_a_hub_that_is_away_gets_its_report_when_it_returns(
    make_pair: Callable[..., Pair], module_grid: Grid, told: StubNvml
) -> None:
    away = module_grid.hub(**HUB)
    process = module_grid.hubs[away]
    process.kill()
    pair = make_pair(GHUB_PROVIDER_TOKEN=TOKEN, GHUB_PROVIDER_HUB_URL=away, **told.env)
    until(lambda: "report_failed" in pair.provider.tail(), 5, pair.provider.tail)
    assert module_grid.hub(GHUB_HUB_PORT=away.rpartition(":")[2], wait=False, **HUB)
    until(lambda: registered_or_none(away, pair.first_node), 20, pair.provider.tail)


def registered_or_none(hub: str, node: str) -> bool:
    try:
        return bool(registered(hub, node).get("report"))
    except OSError:
        return False


def test_metrics_are_in_prometheus_form(provider: tuple[Pair, str]) -> None:
    pair, url = provider
    assert pair.call().finish().said == numbered(0, 5)
    until(lambda: "ghub_provider_jobs_total{" in get(url, "/metrics").text, 5, "the job is counted, once it is settled")
    answer = get(url, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    figures = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if line and not line.startswith("#"))
    label = '{gpu="GPU-0000-test",name="NVIDIA Test 9000"}'
    assert float(figures[f"ghub_gpu_utilization_percent{label}"]) == 7
    assert float(figures[f"ghub_gpu_memory_total_bytes{label}"]) == 16_384 * 2**20
    assert float(figures[f"ghub_gpu_power_watts{label}"]) == 87.5
    assert float(figures["ghub_provider_slots"]) == 4
    assert float(figures['ghub_provider_jobs_total{outcome="done"}']) == 1


def test_the_owner_pauses_and_resumes_by_http(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair()
    url = pair.grid.provider_urls[pair.first_node]
    answer = control(url, "/pause", CONTROL)
    assert (answer.status, answer.json) == (200, {"state": "paused", "reasons": ["paused"]})
    until(lambda: pair.reasons() == ["paused"], 5, pair.reasons)
    with pair.call(stream=True) as call:
        call.wait_for(": queued, 0 ahead")
        assert pair.first.state()["requests"] == []
        assert control(url, "/resume", CONTROL).json == {"state": "idle", "reasons": []}
        assert call.finish().said == numbered(0, 5)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="a form on a web page"),
        pytest.param({**CONTROL, "host": "evil.example:8081"}, id="a page whose name resolves to this machine"),
        pytest.param({**CONTROL, "x-forwarded-for": "203.0.113.7"}, id="through a proxy"),
    ],
)
def test_nobody_from_outside_pauses_a_provider(make_pair: Callable[..., Pair], headers: Mapping[str, str]) -> None:
    pair = make_pair()
    answer = control(pair.grid.provider_urls[pair.first_node], "/pause", headers)
    assert (answer.status, answer.error["code"]) == (403, "control_local_only")
    assert pair.reasons() == []


def test_behind_a_tunnel_only_the_control_token_pauses(make_pair: Callable[..., Pair]) -> None:
    open_pair = make_pair(GHUB_PROVIDER_TUNNEL__URL="https://one.example.net")
    url = open_pair.grid.provider_urls[open_pair.first_node]
    assert control(url, "/pause", CONTROL).error["code"] == "control_off"
    token = "a-control-token-of-the-tests"
    pair = make_pair(GHUB_PROVIDER_TUNNEL__URL="https://one.example.net", GHUB_PROVIDER_SERVER__CONTROL_TOKEN=token)
    url = pair.grid.provider_urls[pair.first_node]
    assert control(url, "/pause", CONTROL).status == 401
    assert control(url, "/pause", {"authorization": f"Bearer {token}x"}).status == 401
    assert control(url, "/pause", {"authorization": f"Bearer {token}"}).json["reasons"] == ["paused"]


def test_what_it_does_not_serve_is_told_in_openai_s_form(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair()
    url = pair.grid.provider_urls[pair.first_node]
    assert (get(url, "/nothing").status, get(url, "/nothing").error["code"]) == (404, "unknown_url")
    with Call(url, path="/health", method="DELETE") as call:
        assert call.finish().error["code"] == "method_not_allowed"


def test_a_port_that_is_taken_is_told_in_one_line(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair()
    port = pair.grid.provider_urls[pair.first_node].rpartition(":")[2]
    other = pair.grid.provider(pair.first.url, f"{pair.first_node}-twin", wait=False, GHUB_PROVIDER_SERVER__PORT=port)
    process = pair.grid.providers[other]
    assert process.wait(20) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in process.tail()
    assert "Traceback" not in process.tail()


def control(url: str, path: str, headers: Mapping[str, str]) -> Answer:
    """POST without a body and with just these headers."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=5)
    try:
        connection.putrequest("POST", path, skip_host="host" in headers)
        for name, value in {**headers, "content-length": "0"}.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, told, response.read().decode())
    finally:
        connection.close()


def test_the_registry_in_the_broker_shows_the_gpus(provider: tuple[Pair, str]) -> None:
    pair, _ = provider
    with pair.grid.redis() as client:
        shown = pair.grid.node(client, pair.first_node)
    assert '"name":"NVIDIA Test 9000"' in shown["gpus"]
    assert '"capabilities":[' in shown["engine"]


def test_chat_still_works_beside_all_this(provider: tuple[Pair, str]) -> None:
    pair, _ = provider
    with Call(pair.hub, chat(model=pair.model, tokens=3, stream=True)) as call:
        assert call.finish().said == numbered(0, 3)
