"""What the stories of the contract suites are told with: jobs, publishing, waiting, looking."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from common.broker.broker import Broker
from common.keys import Keys
from common.records.grid import NodeRecord
from common.records.registry import Registry, record_of
from common.streams.jobs import Delivery, JobLanes, LaneName, Ticket, lanes_of
from common.streams.requests import Published, QueueFull, Requests, RequestTtls, SetAside
from common.tasks import Crew
from common.types import HubId, Lane, ModelId, NodeId, RequestId
from common.wire import Job, ReplyEntry
from tests.support.brokers import KINDS

on_real_brokers = pytest.mark.parametrize("broker", KINDS, indirect=True)
"""For tests of what fakeredis doesn't have at all: processes, blocking, memory, users."""

HUB = HubId("hub-1")
NODE = NodeId("node-1")
MODEL = ModelId("tiny:1b")
OTHER_MODEL = ModelId("org/other model:{70b}")
TTLS = RequestTtls(request_ms=60_000, reply_ms=30_000)
LANES = lanes_of([MODEL])
KEYS = Keys()


def raw(broker: Broker) -> Any:
    """The plain client of a broker, to look and to meddle with."""
    return broker.commands


def a_job(request: str = "r1", model: ModelId = MODEL, *, attempt: int = 1, hub: HubId = HUB) -> Job:
    reply = KEYS.reply(hub, RequestId(request))
    body = b"\x00\xff" + request.encode()
    return Job(RequestId(request), attempt, model, "/v1/chat/completions", True, body, reply, 2**53)


async def try_publish(
    broker: Broker,
    request: str = "r1",
    model: ModelId = MODEL,
    lane: Lane = Lane.INTERACTIVE,
    *,
    max_waiting: int = 1000,
    near: SetAside | None = None,
) -> Published | QueueFull:
    """Publish a job, or hear that the queue is full."""
    facts = {"model": model, "hub": HUB}
    requests, job = Requests(broker, TTLS, HUB), a_job(request, model)
    return await requests.publish(job, lane, facts, max_waiting=max_waiting, near=near)


async def publish(
    broker: Broker, request: str = "r1", model: ModelId = MODEL, lane: Lane = Lane.INTERACTIVE, **options: Any
) -> Ticket:
    """Publish a job that is sure to be taken."""
    published = await try_publish(broker, request, model, lane, **options)
    assert isinstance(published, Published)
    return published.ticket


async def claim_all(broker: Broker, lanes: Sequence[LaneName] = LANES, node: NodeId = NODE) -> list[Delivery]:
    """Everything that waits, for a node that has made its lanes."""
    await JobLanes(broker).ensure(lanes)
    return await JobLanes(broker).claim(node, lanes, 1000)


async def held_by(broker: Broker, node: NodeId, lanes: Sequence[LaneName] = LANES) -> list[Delivery]:
    """Everything that was delivered to a node and not settled."""
    return [delivery async for delivery in JobLanes(broker).delivered(node, lanes)]


def requests_of(deliveries: Sequence[Delivery]) -> list[str]:
    return [Job.from_fields(delivery.fields or {}).id for delivery in deliveries]


async def pending(broker: Broker, lane: LaneName) -> int:
    """How many entries of a lane are claimed and not acknowledged."""
    answer = await raw(broker).xpending(KEYS.lane(*lane), "providers")
    return int(answer["pending"])


async def entries_of(broker: Broker, key: str) -> list[tuple[str, ReplyEntry]]:
    """The entries of a reply but for the hub's own, by id."""
    found = await raw(broker).xrange(key)
    return [(entry_id.decode(), ReplyEntry.from_fields(fields)) for entry_id, fields in found if entry_id != b"0-1"]


async def all_keys(broker: Broker) -> set[str]:
    return {key.decode() for keys in await broker.everywhere("KEYS", "*") for key in keys}


async def flush(broker: Broker) -> None:
    """Have the broker forget every key."""
    await broker.everywhere("FLUSHALL")


async def forget_scripts(broker: Broker) -> None:
    """Have the broker forget every script."""
    await broker.everywhere("SCRIPT", "FLUSH")


async def hash_of(broker: Broker, key: str) -> dict[str, str]:
    found = await raw(broker).hgetall(key)
    return {name.decode(): value.decode() for name, value in found.items()}


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, within_s: float = 10) -> None:
    """Poll until a condition holds; fail with `what` when the limit passes."""
    began = time.monotonic()
    while not await condition():
        waited_s = time.monotonic() - began
        assert waited_s < within_s, f"not within {within_s} s: {what}"
        await asyncio.sleep(min(0.05, max(0.005, waited_s / 10)))


@asynccontextmanager
async def at_work(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Long-lived tasks at work; fails if one of them ends before the story does."""
    crew, is_told = Crew(), asyncio.Event()
    for n, work in enumerate(works):
        crew.start(f"work-{n}", work)
    try:
        yield
        is_told.set()
        await crew.until(is_told)
    finally:
        await crew.stop()


async def until_blocked(broker: Broker, clients: int = 1) -> None:
    """Wait until so many clients are blocked at the broker."""

    async def are_blocked() -> bool:
        told = b"".join(await broker.everywhere("INFO", "clients"))
        return sum(map(int, re.findall(rb"blocked_clients:(\d+)", told))) >= clients

    await eventually(are_blocked, f"{clients} clients blocked")


async def live_nodes(registry: Registry, now_ms: int, also: Sequence[NodeId] = ()) -> list[NodeRecord]:
    """Every node that lives, as a hub finds them that knows of none but `also`."""
    scores = await registry.indexed(now_ms)
    names = sorted({*scores, *also})
    read = [record_of(name, entry) for name, entry in zip(names, await registry.entries(names), strict=True)]
    live = [record for record in read if record is not None]
    await registry.keep_indexed({record.node: record.heartbeat_at for record in live}, scores, now_ms)
    return live
