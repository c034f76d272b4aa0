"""Health reports: the latest of each node stays, longer than the node does, and ends by itself in the end."""

from typing import Any

import pytest

from common.broker.broker import Broker
from common.records.registry import MOST_REPORTS, Registry
from common.report import EngineReport, GpuReport, HealthReport, ModelReport, StoredReport
from common.types import NodeId, NodeState
from tests.contract.story import KEYS, NODE, all_keys, eventually, live_nodes, raw
from tests.contract.test_registry import NOW_MS, RECORD

TTL_MS = 60_000
REPORT = HealthReport(
    node=NODE,
    version="0.1.0",
    state=NodeState.PAUSED,
    reasons=("gpu-busy",),
    gpu_count=1,
    gpus=(GpuReport(name="H100", memory_used_mib=5, utilization_pct=None, power_w=70.5),),
    models=(ModelReport(id='org/"naïve" 模型', size_bytes=2**40, loaded=True),),
    engine=EngineReport(kind="ollama", version="1", url="http://127.0.0.1:11434", capabilities=("chat",)),
    public_url="https://node.example.org",
    slots=4,
    running=1,
)


def of_node(node: str, **fields: Any) -> HealthReport:
    return REPORT.model_copy(update={"node": node, **fields})


def stored(report: HealthReport, reported_at: int = NOW_MS) -> StoredReport:
    return StoredReport.model_validate({**report.model_dump(), "reported_at": reported_at})


async def test_a_report_shows_as_it_came_and_when(broker: Broker) -> None:
    registry = Registry(broker)
    await registry.write_report(REPORT, NOW_MS, TTL_MS)
    assert await registry.reports() == {NODE: stored(REPORT)}


async def test_the_latest_report_takes_the_place_of_the_former(broker: Broker) -> None:
    registry = Registry(broker)
    await registry.write_report(REPORT, NOW_MS, 1000)
    later = of_node(NODE, state=NodeState.IDLE, reasons=())
    await registry.write_report(later, NOW_MS + 500, TTL_MS)
    assert await registry.reports() == {NODE: stored(later, NOW_MS + 500)}
    assert 1000 < await raw(broker).pttl(KEYS.report(NODE)) <= TTL_MS


async def test_a_report_outlives_its_node(broker: Broker) -> None:
    """So that one can see how a lost machine stood."""
    registry = Registry(broker)
    await registry.write_node(RECORD, 6000)
    await registry.write_report(REPORT, NOW_MS, TTL_MS)
    await registry.remove_node(NODE)
    assert await live_nodes(registry, NOW_MS) == []
    assert await registry.reports() == {NODE: stored(REPORT)}


async def test_nobody_reported(broker: Broker) -> None:
    assert await Registry(broker).reports() == {}


async def test_a_report_fades_by_itself(broker: Broker) -> None:
    registry = Registry(broker)
    await registry.write_report(of_node("fresh"), NOW_MS, TTL_MS)
    await registry.write_report(REPORT, NOW_MS, 50)

    async def has_faded() -> bool:
        return NODE not in await registry.reports()

    await eventually(has_faded, "the report is gone")


async def test_every_key_ends_by_itself(broker: Broker) -> None:
    await Registry(broker).write_report(REPORT, NOW_MS, TTL_MS)
    assert await all_keys(broker) == {KEYS.report(NODE), KEYS.reports}
    assert all([0 < await raw(broker).pttl(key) <= TTL_MS for key in await all_keys(broker)])


async def test_names_long_silent_are_swept_from_the_index(broker: Broker) -> None:
    registry = Registry(broker)
    await registry.write_report(REPORT, NOW_MS, TTL_MS)
    await registry.write_report(of_node("late"), NOW_MS + TTL_MS + 1, TTL_MS)
    assert await raw(broker).zrange(KEYS.reports, 0, -1) == [b"late"]
    assert set(await registry.reports()) == {"late"}


async def test_invented_names_do_not_pile_up(broker: Broker) -> None:
    registry = Registry(broker)
    names = {f"invented-{n}": NOW_MS + n for n in range(MOST_REPORTS)}
    await raw(broker).zadd(KEYS.reports, names)
    await registry.write_report(REPORT, NOW_MS + MOST_REPORTS, TTL_MS)
    left = await raw(broker).zrange(KEYS.reports, 0, -1)
    assert (len(left), left[0], left[-1]) == (MOST_REPORTS, b"invented-1", NODE.encode())


@pytest.mark.parametrize("garbled", [b"", b"{", b"\xff", b"[]", b'{"node": "stranger"}', b"null"])
async def test_a_report_that_cannot_be_read_hides_no_other(broker: Broker, garbled: bytes) -> None:
    registry, stranger = Registry(broker), NodeId("stranger")
    await registry.write_report(REPORT, NOW_MS, TTL_MS)
    await registry.write_report(of_node(stranger), NOW_MS, TTL_MS)
    await raw(broker).set(KEYS.report(stranger), garbled)
    await raw(broker).zadd(KEYS.reports, {b"\xff": NOW_MS})
    assert set(await registry.reports()) == {NODE}
