"""ReplyWriters at work, attempts that speak through them, and runners of jobs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common.broker.broker import Broker
from common.broker.clock import BrokerClock
from common.signing import SigningKeys
from common.streams.jobs import JobLanes
from common.streams.replies import ReplyStreams
from common.telemetry.port import NO_TRACING
from common.types import NodeId
from provider.jobs.attempt import Attempts
from provider.jobs.deliveries import Deliveries
from provider.jobs.runner import Runner
from provider.machine import Machine
from provider.membership.access import Access, SharedAccess
from provider.replies.reopening import ReopenWindow
from provider.replies.reply import Reply, ReplyState
from provider.replies.writer import ReplyWriter
from provider.settings import ProviderSettings
from provider.telemetry.trail import Trails
from tests.contract.story import HUB, KEYS, MODEL, a_job, at_work, entries_of

BELL = KEYS.doorbell(HUB)
REPLY = a_job("r1").reply


@asynccontextmanager
async def writing(broker: Broker, *, flush_gap_ms: float = 2, grace_s: float = 20) -> AsyncIterator[ReplyWriter]:
    """A writer at work."""
    window = ReopenWindow(broker.reconnections)
    writer = ReplyWriter(ReplyStreams(broker), window, flush_gap_ms=flush_gap_ms, broker_grace_s=grace_s)
    async with at_work(writer.run()):
        yield writer


def a_runner(
    broker: Broker,
    machine: Machine,
    writer: ReplyWriter,
    node: NodeId,
    *,
    settings: ProviderSettings | None = None,
    access: Access | None = None,
    trails: Trails | None = None,
) -> Runner:
    """A runner that speaks through this writer; any hub's jobs are as good as signed unless told otherwise."""
    lanes, replies = JobLanes(broker), ReplyStreams(broker)
    attempts = Attempts(node, settings or ProviderSettings(name=node), replies, machine)
    deliveries = Deliveries(lanes, KEYS, access or SharedAccess(lanes, lambda: [MODEL], SigningKeys()))
    return Runner(
        machine, deliveries, writer, attempts, BrokerClock(broker), trails or Trails(NO_TRACING, node, machine.engine)
    )


class Attempt:
    """A reply of a writer, and what it was told of its end."""

    def __init__(self, writer: ReplyWriter, request: str = "r1", attempt: int = 1) -> None:
        self.over: list[ReplyState] = []
        self.reply: Reply = writer.open(a_job(request, attempt=attempt), BELL, self.over.append)


def events(count: int, begin: int = 0) -> list[bytes]:
    return [b"data: %d\n\n" % n for n in range(begin, begin + count)]


async def said(broker: Broker, request: str = "r1") -> bytes:
    return b"".join(entry.data for _, entry in await entries_of(broker, a_job(request).reply))


async def assert_ids_count_up(broker: Broker, request: str = "r1") -> None:
    ids = [entry_id for entry_id, _ in await entries_of(broker, a_job(request).reply)]
    assert ids == [f"1-{n}" for n in range(len(ids))]
