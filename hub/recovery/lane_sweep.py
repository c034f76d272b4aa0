"""Takes out of the lanes what nobody will ever deal with.

Each step is harmless if somebody else does it too: settling and withdrawing are atomic, and a hub that still looks
after a request puts its next attempt into a lane whether or not the last one is there.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Mapping, Sequence

import structlog

from common.errors import BrokerRefused
from common.records.request_book import RequestBook
from common.streams.jobs import LaneName, Ticket, near_lane
from common.streams.lane_looks import JobGlimpse, LaneLooks, LaneStanding
from common.types import NodeId, RequestId
from common.wire import EntryId
from hub.recovery.complaints import Complaints
from hub.recovery.facts import OVER
from hub.requests.backstage import Backstage

log = structlog.get_logger()

LANES_PER_LOOK = 200
"""A grid may have thousands of lanes: each look is at the next ones."""
NEAR_LANES_PER_LOOK = 20
"""The same of nodes' own lanes: who set a job aside there moves it on, and so does a hub that takes over from it."""
JOBS_PER_LOOK = 10
"""Of one lane, whose broker reads their bodies for that, however long; the next look goes on behind them."""
CLAIMED_PER_NODE = 100
OVERDUE_MS = 10_000
"""So long after its deadline a waiting job has been ended by its hub, if that lives."""
FORGET_NODE_MS = 86_400_000
"""A day: how long a node has not asked a lane for jobs before the lane forgets it."""
FORGET_EVERY_S = 3600.0
SET_ASIDE_MS = 10_000
"""So long after a job was set aside for a node its hub has moved it on, if that lives: settings allow 5 s."""
DROP_LANE_S = 3600.0
"""How long the own lane of a node that is gone waits for it."""


class LaneSweep:
    """Looks at some lanes each time, over and over. Raises BrokerError from every method."""

    def __init__(
        self, stage: Backstage, looks: LaneLooks, book: RequestBook, complaints: Complaints, node_lease_ms: int
    ) -> None:
        self._looks = looks
        self._lanes = stage.lanes
        self._near_lanes = stage.near_lanes
        self._book = book
        self._view = stage.view
        self._clock = stage.clock
        self._complaints = complaints
        self._node_lease_ms = node_lease_ms
        self._last: LaneName | None = None
        self._last_near: LaneName | None = None
        self._seen: dict[LaneName, bytes] = {}
        """How far each lane's waiting jobs were looked at."""
        self._forgets_at: dict[LaneName, float] = {}
        self._absent_since: dict[NodeId, float] = {}
        """Of nodes that are gone and have left a lane of their own."""

    async def look(self) -> None:
        """Take stale and orphaned jobs out of the next lanes."""
        for standing in await self._looks.standings(await self._next_lanes()):
            doing = f"lane {standing.lane}"
            try:
                if standing.claimed and self._view.is_fresh:
                    await self._settle_stale(standing.lane)
                if standing.waiting:
                    await self._withdraw_orphans(standing)
                if standing.lane.near is not None and self._view.is_fresh:
                    await self._drop_if_left(standing.lane.near)
                if self._view.is_fresh:
                    await self._forget_nodes(standing.lane)
            except BrokerRefused as exc:  # something in this lane is not what it should be
                self._complaints.tell(doing, exc)
            else:
                self._complaints.withdraw(doing)

    async def unsettled(self, tickets: Mapping[RequestId, Ticket]) -> list[RequestId]:
        """Those of these requests whose jobs still lie where their tickets say."""
        return await self._looks.unsettled(tickets)

    async def _next_lanes(self) -> list[LaneName]:
        near = [near_lane(node) for node in sorted(await self._near_lanes.nodes())]
        shared = sorted(await self._lanes.known(), key=str)
        known = [*shared, *near]
        if len(self._forgets_at) > 2 * len(known):  # of lanes that are no more
            self._forgets_at = {lane: self._forgets_at[lane] for lane in known if lane in self._forgets_at}
            self._seen = {lane: self._seen[lane] for lane in known if lane in self._seen}
        some, self._last = _behind(self._last, shared, LANES_PER_LOOK)
        some_near, self._last_near = _behind(self._last_near, near, NEAR_LANES_PER_LOOK)
        return [*some, *some_near]

    async def _forget_nodes(self, lane: LaneName) -> None:
        """Have a lane forget nodes that have not been there for a day and hold nothing of it."""
        now = asyncio.get_running_loop().time()
        if now < self._forgets_at.get(lane, 0.0):
            return
        self._forgets_at[lane] = now + FORGET_EVERY_S
        for one in await self._looks.consumers(lane):
            if one.node not in self._view.nodes and not one.claimed and one.idle_ms > FORGET_NODE_MS:
                await self._looks.forget_consumer(lane, one.node)

    async def _settle_stale(self, lane: LaneName) -> None:
        """Jobs of nodes that are gone: those that need no more work. With the others their hub knows what to do."""
        gone = [node for node in await self._looks.holders(lane) if node not in self._view.nodes]
        for node in gone:
            for ticket in await self._looks.claimed_by(lane, node, self._node_lease_ms, CLAIMED_PER_NODE):
                job = await self._looks.glimpse(ticket)
                if job is None or await self._is_stale(job):
                    await self._lanes.settle(ticket)  # not its request: that may stand in the index for a later attempt
                    log.info("stale_job_settled", lane=str(lane), node=node, request=job.request if job else None)

    async def _is_stale(self, job: JobGlimpse) -> bool:
        (newest,) = await self._looks.newest_entries([job.reply])
        if newest is None:
            return True
        if isinstance(newest, EntryId) and job.attempt is not None and newest.attempt > job.attempt:
            return True
        facts = (await self._book.read([job.request])).get(job.request, {})
        return facts.get("status") in OVER

    async def _withdraw_orphans(self, standing: LaneStanding) -> None:
        """Waiting jobs whose request is over or too late; their hub would have withdrawn them."""
        lane = standing.lane
        start = max(standing.newest_claimed, self._seen.get(lane, b"0-0"), key=_order)
        jobs = await self._looks.behind(lane, start, JOBS_PER_LOOK)
        now_ms = self._clock.now_ms()
        newest = await self._looks.newest_entries([job.reply for job in jobs])
        for job, entry in zip(jobs, newest, strict=True):
            is_late = job.deadline_ms is not None and job.deadline_ms + OVERDUE_MS < now_ms
            if (is_late or entry is None) and await self._lanes.withdraw(job.ticket, job.request) is None:
                log.info("orphaned_job_withdrawn", lane=str(lane), request=job.request, is_late=is_late)
                continue
            is_overdue = lane.near is not None and _order(job.ticket.entry)[0] + SET_ASIDE_MS < now_ms
            if is_overdue and await self._near_lanes.move(job.ticket, job.request) is not None:
                log.info("job_moved_on", lane=str(lane), request=job.request)
        if len(jobs) < JOBS_PER_LOOK:
            self._seen.pop(lane, None)  # from the head again
        else:
            self._seen[lane] = jobs[-1].ticket.entry

    async def _drop_if_left(self, node: NodeId) -> None:
        """Take away the lane of a node that has been gone for long."""
        now = asyncio.get_running_loop().time()
        if node in self._view.nodes:
            self._absent_since.pop(node, None)
        elif now - self._absent_since.setdefault(node, now) > DROP_LANE_S and await self._near_lanes.drop(node):
            del self._absent_since[node]


def _behind(last: LaneName | None, known: Sequence[LaneName], count: int) -> tuple[Sequence[LaneName], LaneName | None]:
    """The next of these lanes, in the order of their names, and the last of them.

    None for that where the next look begins at the first one again.
    """
    start = 0 if last is None else bisect_right(known, str(last), key=str)
    lanes = (known[start:] or known)[:count]
    return lanes, lanes[-1] if lanes and len(lanes) < len(known) else None


def _order(entry: bytes) -> tuple[int, int]:
    """An entry's id as the broker compares it."""
    ms, _, number = entry.partition(b"-")
    return int(ms), int(number)
