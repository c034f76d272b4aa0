"""Puts together what a hub needs for requests that can be resumed."""

from dataclasses import dataclass

from common.broker.broker import Broker
from common.records.idempotency import IdempotencyKeys
from common.records.registry import Registry
from common.records.request_book import RequestBook
from common.streams.job_search import JobSearch
from common.streams.replies import Doorbell, ReplyStreams
from common.tasks import Crew
from hub.access.gatekeeper import Gatekeeper
from hub.requests.backstage import Backstage
from hub.requests.dispatcher import Dispatcher
from hub.resume.adoption import Adoption
from hub.resume.bells import Bells
from hub.resume.fates import Fates
from hub.resume.followings import Followings
from hub.resume.guards import Guards
from hub.resume.held_keys import HeldKeys
from hub.resume.idempotency import Idempotency
from hub.resume.own_requests import OwnRequests


@dataclass(frozen=True, slots=True)
class Resumption:
    """The parts that others work with."""

    guards: Guards
    followings: Followings
    idempotency: Idempotency
    own: OwnRequests
    bells: Bells

    def start(self, crew: Crew) -> None:
        """Begin the background tasks."""
        crew.start("readings", self.followings.run())
        crew.start("guards", self.guards.run())

    async def stop(self) -> None:
        """End what the crew does not end."""
        await self.bells.stop()


def make_resumption(broker: Broker, dispatcher: Dispatcher, backstage: Backstage, gatekeeper: Gatekeeper) -> Resumption:
    """All parts, none of which works yet."""
    keys, replies, book, records = broker.keys, ReplyStreams(broker), RequestBook(broker), IdempotencyKeys(broker)
    settings = backstage.settings
    bells = Bells(lambda hub: Doorbell(broker, hub), backstage.reader)
    adoption = Adoption(JobSearch(broker, backstage.signing), replies, keys, backstage)
    held_keys = HeldKeys(records, broker.reconnections, settings)
    guards = Guards(dispatcher, backstage, book, held_keys, adoption, bells, keys)
    fates = Fates(book, replies, Registry(broker), backstage.reader, settings)
    followings = Followings(guards, backstage, fates, bells, keys)
    return Resumption(
        guards,
        followings,
        Idempotency(guards, followings, fates, records, book, backstage),
        OwnRequests(gatekeeper, book, records, settings),
        bells,
    )
