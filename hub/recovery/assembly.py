"""Puts the reaper of a hub together."""

from common.broker.broker import Broker
from common.broker.clock import BrokerClock
from common.records.leftovers import Leftovers
from common.records.request_book import RequestBook
from common.streams.jobs import JobLanes
from common.streams.lane_looks import LaneLooks
from common.streams.near_lanes import NearLanes
from common.streams.requests import Requests
from common.types import HubId
from hub.grid.registry_view import RegistryView
from hub.grid.steadiness import Steadiness
from hub.recovery.complaints import Complaints
from hub.recovery.endings import Endings
from hub.recovery.lane_sweep import LaneSweep
from hub.recovery.orphans import HEARD_MS, Adopt, Orphans
from hub.recovery.reaper import Holder, Reaper
from hub.settings import HubSettings


def make_reaper(
    *,
    hub: HubId,
    settings: HubSettings,
    broker: Broker,
    requests: Requests,
    view: RegistryView,
    clock: BrokerClock,
    holder: Holder,
    steadiness: Steadiness,
    endings: Endings,
    adopt: Adopt,
) -> Reaper:
    """A reaper that does not work yet: see `Reaper.run`."""
    complaints, leftovers, book = Complaints(), Leftovers(broker), RequestBook(broker)
    lanes, near_lanes = JobLanes(broker), NearLanes(broker)
    heard_ms = min(HEARD_MS, int(settings.answer_keep_s * 1000))
    orphans = Orphans(
        hub, broker.keys, leftovers, requests, lanes, book, view, clock, endings, adopt, complaints, heard_ms
    )
    looks = LaneLooks(broker)
    sweep = LaneSweep(looks, lanes, near_lanes, book, view, clock, complaints, settings.lease_ms)
    return Reaper(hub, settings, leftovers, orphans, sweep, looks, steadiness, endings, complaints, holder)
