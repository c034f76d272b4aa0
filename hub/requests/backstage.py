"""What every open request of a hub works with."""

from dataclasses import dataclass

from common.broker.clock import BrokerClock
from common.signing import SigningKeys
from common.streams.jobs import JobLanes
from common.streams.near_lanes import NearLanes
from common.streams.requests import Requests
from common.telemetry.port import NO_TRACING, Tracing
from common.types import HubId
from hub.affinity.affinity import Affinity
from hub.figures.tally import Tally
from hub.grid.registry_view import RegistryView
from hub.recovery.endings import Endings
from hub.relay.reader import ReplyReader
from hub.requests.burial import DeadJobs
from hub.requests.ledger import Ledger
from hub.requests.turns import Turns
from hub.settings import HubSettings


@dataclass(frozen=True, slots=True)
class Backstage:
    """The parts of a hub that a request needs, made once by the composition root."""

    hub: HubId
    settings: HubSettings
    clock: BrokerClock
    signing: SigningKeys
    lanes: JobLanes
    requests: Requests
    view: RegistryView
    reader: ReplyReader
    ledger: Ledger
    turns: Turns
    dead: DeadJobs
    tally: Tally
    affinity: Affinity
    near_lanes: NearLanes
    endings: Endings
    tracing: Tracing = NO_TRACING
