"""The reaper: a root task of every hub that deals with what dead hubs and dead nodes left behind.

Any number of them may run at once, without a lock: each step is one that the broker lets only one of them take, or one
that does no harm twice.
"""

import asyncio
from typing import Protocol

from common.errors import BrokerError, BrokerUnavailable
from common.records.leftovers import Leftovers
from common.types import RequestId
from hub.grid.presence import hub_lease_ms
from hub.grid.steadiness import Steadiness
from hub.recovery.complaints import Complaints
from hub.recovery.lane_sweep import LaneSweep
from hub.recovery.orphans import Orphans
from hub.requests.backstage import Backstage

ROUND_S = 0.5
"""Between two looks for dead hubs; each is two reads while there are none."""
LANES_S = 5.0
"""Between two looks at lanes: what lies there too long is in nobody's way."""
LANES_STEADY_S = 10.0
"""So long after a break of the broker a reply that is missing is gone for good: its hub would have restored it."""
OWN_S = 10.0
"""Between two looks for requests that stand in this hub's list and that it does not know."""
STRAY_S = 60.0
"""So long it does not know them: it needs a while to publish a request and to take one out of the broker again."""

TICKETS_PER_LOOK = 100


class Holder(Protocol):
    """Knows the requests that this hub looks after."""

    @property
    def is_draining(self) -> bool:
        """Whether this hub takes no more."""

    def find(self, request: RequestId, /) -> object | None:
        """One of them; None if it is not there."""


class Reaper:
    """Looks around until cancelled. A hub that is stopping takes nothing over any more."""

    def __init__(
        self,
        stage: Backstage,
        leftovers: Leftovers,
        orphans: Orphans,
        lanes: LaneSweep,
        steadiness: Steadiness,
        complaints: Complaints,
        holder: Holder,
    ) -> None:
        self._hub = stage.hub
        self._hub_lease_s = hub_lease_ms(stage.settings) / 1000
        self._leftovers = leftovers
        self._orphans = orphans
        self._lanes = lanes
        self._steadiness = steadiness
        self._endings = stage.endings
        self._complaints = complaints
        self._holder = holder
        self._strays: dict[RequestId, float] = {}
        """Since when requests of this hub's list are not known to it."""
        self._due_at: dict[str, float] = {}

    async def run(self) -> None:
        """One round after the other until cancelled."""
        while True:
            await asyncio.sleep(ROUND_S)
            await self.round()

    async def round(self) -> None:
        """Look once at all that is due. Never raises: what failed comes again in the next round."""
        if self._holder.is_draining:
            return
        self._endings.shaken(self._steadiness.since_s)
        try:
            await self._orphans.deal()
            await self.look_for_dead_hubs()
            if self._is_due("own", OWN_S):
                await self.look_for_strays()
                await self.look_for_forgotten_endings()
            if self._steadiness.lasts(LANES_STEADY_S) and self._is_due("lanes", LANES_S):
                await self._lanes.look()
        except BrokerError as exc:
            if isinstance(exc, BrokerUnavailable):
                self._steadiness.shake()
            self._complaints.tell("round", exc)
        else:
            self._complaints.withdraw("round")

    async def look_for_dead_hubs(self) -> None:
        """Take over the requests of hubs that are gone, once all who live have had the time to say so."""
        for hub in await self._leftovers.dead_hubs():
            if hub == self._hub or not self._steadiness.lasts(self._hub_lease_s):
                continue
            try:
                await self._orphans.take_from(hub)
            except BrokerUnavailable:
                raise
            except BrokerError as exc:  # of this hub's keys alone
                self._complaints.tell(f"hub {hub}", exc)

    async def look_for_strays(self) -> None:
        """Requests in this hub's list that it does not look after.

        Those that it has ended the broker has forgotten to be over. Others it has not known for long: publishing or
        taking over was cut short.
        """
        now = asyncio.get_running_loop().time()
        taken = set(self._orphans.taken)
        mine = [one for one in await self._leftovers.open_of(self._hub) if one not in taken]
        self._strays = {one: self._strays.get(one, now) for one in mine if self._holder.find(one) is None}
        lost = [
            one for one, since in self._strays.items() if now - since > STRAY_S or self._endings.find(one) is not None
        ]
        self._orphans.accept(lost, self._hub)

    async def look_for_forgotten_endings(self) -> None:
        """Requests that ended around a break of the broker, whose jobs it keeps as if somebody worked on them."""
        doubtful = self._endings.doubtful()
        if doubtful is None:
            return
        tickets = [*doubtful.items()]
        for start in range(0, len(tickets), TICKETS_PER_LOOK):
            some = dict(tickets[start : start + TICKETS_PER_LOOK])
            self._orphans.accept(await self._lanes.unsettled(some), self._hub)
        self._endings.settled()

    def _is_due(self, what: str, every_s: float) -> bool:
        now = asyncio.get_running_loop().time()
        if now < self._due_at.get(what, 0.0):
            return False
        self._due_at[what] = now + every_s
        return True
