"""Puts the reaper of a hub together."""

from common.broker.broker import Broker
from common.records.leftovers import Leftovers
from common.records.request_book import RequestBook
from common.streams.lane_looks import LaneLooks
from hub.grid.steadiness import Steadiness
from hub.recovery.complaints import Complaints
from hub.recovery.lane_sweep import LaneSweep
from hub.recovery.orphans import Adopt, Orphans
from hub.recovery.reaper import Holder, Reaper
from hub.requests.backstage import Backstage


def make_reaper(broker: Broker, stage: Backstage, holder: Holder, steadiness: Steadiness, adopt: Adopt) -> Reaper:
    """A reaper that does not work yet: see `Reaper.run`."""
    complaints, leftovers, book = Complaints(), Leftovers(broker), RequestBook(broker)
    orphans = Orphans(stage, broker.keys, leftovers, book, adopt, complaints)
    sweep = LaneSweep(stage, LaneLooks(broker), book, complaints, stage.settings.lease_ms)
    return Reaper(stage, leftovers, orphans, sweep, steadiness, complaints, holder)
