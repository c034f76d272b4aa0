"""Puts the reaper of a hub together."""

from common.broker.broker import Broker
from common.streams.lane_looks import LaneLooks
from common.streams.leftovers import Leftovers
from common.streams.request_book import RequestBook
from hub.grid.steadiness import Steadiness
from hub.recovery.complaints import Complaints
from hub.recovery.lane_sweep import LaneSweep
from hub.recovery.orphans import HEARD_MS, Adopt, Orphans
from hub.recovery.reaper import Holder, Reaper
from hub.requests.backstage import Backstage


def make_reaper(broker: Broker, stage: Backstage, holder: Holder, steadiness: Steadiness, adopt: Adopt) -> Reaper:
    """A reaper that does not work yet: see `Reaper.run`."""
    hub, settings, view, clock, lanes = stage.hub, stage.settings, stage.view, stage.clock, stage.lanes
    complaints, leftovers, book, looks = Complaints(), Leftovers(broker), RequestBook(broker), LaneLooks(broker)
    orphans = Orphans(
        hub=hub,
        keys=broker.keys,
        leftovers=leftovers,
        requests=stage.requests,
        lanes=lanes,
        book=book,
        view=view,
        clock=clock,
        endings=stage.endings,
        adopt=adopt,
        complaints=complaints,
        heard_ms=min(HEARD_MS, int(settings.answer_keep_s * 1000)),
    )
    sweep = LaneSweep(looks, lanes, stage.near_lanes, book, view, clock, complaints, settings.lease_ms)
    return Reaper(hub, settings, leftovers, orphans, sweep, looks, steadiness, stage.endings, complaints, holder)
