"""A hub without its HTTP server, and nodes played by the test."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from common.broker.broker import Broker
from common.errors import ClientGone, LaneMissing
from common.keys import Keys
from common.records.registry import Registry
from common.streams.jobs import Delivery, JobLanes
from common.streams.replies import ReplyStreams, ReplyWrite
from common.telemetry.port import NO_TRACING, Tracing
from common.types import NodeId
from common.wire import EntryId, Failure, Job, ReplyEntry, Start, Usage
from hub.access.gatekeeper import ANYONE, Caller
from hub.app import Hub
from hub.errors import RequestFailed
from hub.requests.admission import Submission
from hub.requests.request import OpenRequest
from hub.settings import HubSettings
from tests.contract.story import LANES, MODEL, NODE, eventually, raw
from tests.contract.test_limits import KEY, NOTHING
from tests.contract.test_registry import RECORD

OTHER_NODE = NodeId("node-2")


class Stage:
    """A hub at work, and two nodes that do what the test says."""

    def __init__(self, broker: Broker, hub: Hub) -> None:
        self.broker = broker
        self.hub = hub
        self.lanes = JobLanes(broker)
        self.replies = ReplyStreams(broker)

    async def submit(self, caller: Caller = ANYONE, **fields: Any) -> OpenRequest:
        body = b'{"model": "tiny:1b"}'
        submission = Submission("/v1/chat/completions", MODEL, body, stream=False, caller=caller)
        return await self.hub.dispatcher.submit(replace(submission, **fields))

    async def take(self, node: NodeId = NODE) -> tuple[Delivery, Job]:
        """The next job, delivered to a node that has not said so yet."""
        found: list[Delivery] = []

        async def has_come() -> bool:
            with suppress(LaneMissing):
                found.extend(await self.lanes.claim(node, LANES, 1))
            return bool(found)

        await eventually(has_come, "a job to claim", within_s=15)
        return found[0], Job.from_fields(found[0].fields or {})

    async def claim(self, node: NodeId = NODE) -> tuple[Delivery, Job]:
        """The next job, claimed by a node."""
        delivery, job = await self.take(node)
        await self.say(job, 0, ReplyEntry(claim=node))
        return delivery, job

    async def say(self, job: Job, n: int, entry: ReplyEntry) -> None:
        bell = Keys().doorbell_of(job.reply)
        await self.replies.write([ReplyWrite(job.reply, bell, job.id, EntryId(job.attempt, n), entry)])

    async def answer(self, node: NodeId = NODE, usage: Usage | None = None) -> None:
        """Claim the next job and answer it."""
        delivery, job = await self.claim(node)
        start = Start(200, "application/json", node)
        await self.say(job, 1, ReplyEntry(start=start, data=b"{}", end=usage or Usage(1, 1)))
        await self.lanes.settle(delivery.ticket, job.id)

    async def fail(self, failure: Failure, node: NodeId = NODE) -> None:
        """Claim the next job and fail at it."""
        _, job = await self.claim(node)
        await self.say(job, 1, ReplyEntry(error=failure))

    async def end_of(self, request: OpenRequest) -> RequestFailed | None:
        """Follow a request to its end, as its handler does; why it failed, or None."""
        try:
            async with asyncio.timeout(15):
                while not request.is_finished:
                    await request.advance()
        except RequestFailed as exc:
            request.failed_with = exc
        except ClientGone:
            pass
        self.hub.dispatcher.close(request)
        return request.failed_with

    async def turns(self) -> dict[str, int]:
        limits = [len(await raw(self.broker).zrange(Keys().limit(KEY.id, book), 0, -1)) for book in NOTHING]
        return dict(zip(NOTHING, limits, strict=True))


@asynccontextmanager
async def a_stage(broker: Broker, tracing: Tracing = NO_TRACING, **settings: Any) -> AsyncIterator[Stage]:
    hub = Hub(HubSettings(max_attempts=2, name="contract", **settings), broker, tracing)
    now_ms = hub.dispatcher._stage.clock.now_ms()
    await register(broker, now_ms)
    hub._rounds._good_keys = lambda: {KEY.digest}  # nobody made that key, and it is no revoked one
    hub.start()
    try:
        await eventually(lambda: _is_known(hub), "the hub's picture of the grid")
        yield Stage(broker, hub)
        await hub.dispatcher.finish_closing(5)
    finally:
        await hub.stop()


async def register(
    broker: Broker, now_ms: int, engine: Mapping[str, Any] = MappingProxyType({"kind": "openai"})
) -> None:
    """Both nodes stand in the registry, and their lanes are there."""
    for node in (NODE, OTHER_NODE):
        record = replace(RECORD, node=node, models=(MODEL,), heartbeat_at=now_ms, engine=dict(engine))
        await Registry(broker).write_node(record, 60_000)
    await JobLanes(broker).ensure(LANES)


async def _is_known(hub: Hub) -> bool:
    return MODEL in hub.dispatcher._stage.view.models
