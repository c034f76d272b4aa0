"""Takes over a request of a hub that died: finds its job again, or its end."""

from collections.abc import Mapping
from dataclasses import dataclass

from common.errors import WireError
from common.keys import Keys
from common.streams.job_search import JobSearch
from common.streams.jobs import Ticket
from common.streams.replies import ReplyStreams
from common.types import KeyId, ModelId, RequestId, RequestStatus
from common.wire import Job
from hub.recovery.facts import is_stream, near_of, own_reply, ticket_of
from hub.relay.retelling import Retelling, retold
from hub.requests.backstage import Backstage
from hub.requests.dispatcher import Dispatcher
from hub.requests.request import OpenRequest
from hub.requests.wishes import Wishes


@dataclass(frozen=True, slots=True)
class Found:
    """What a dead hub left of a request: its job, or else a reply that says how it ended."""

    reply: str
    job: Job | None = None
    ticket: Ticket | None = None
    """Where the job lies; None: the broker has lost it, and a node runs it all the same. Its body is empty then."""
    told: Retelling | None = None
    """How it ended."""


class Adoption:
    """Reads what is left of a request, and makes it this hub's. Raises BrokerError where the broker is asked."""

    def __init__(self, search: JobSearch, replies: ReplyStreams, keys: Keys, backstage: Backstage) -> None:
        self._search = search
        self._replies = replies
        self._keys = keys
        self._stage = backstage

    async def find(self, request: RequestId, facts: Mapping[str, str]) -> Found | None:
        """What is left of a request with these facts; None: so little that nobody can go on with it.

        A provider says the end before it takes the job off its lane, so one of the two is there, unless the broker was
        restarted empty before the hub died. Then the answer comes as long as its node lives; it can't be tried again.
        """
        reply, model = own_reply(facts, request, self._keys), ModelId(facts.get("model", ""))
        if reply is None:
            return None
        found = await self._search.find(request, reply, model, ticket_of(facts), near_of(facts))
        if found is not None:
            return Found(reply, *found)
        try:
            told = await retold(self._replies, reply, is_stream=is_stream(facts))
        except WireError:
            return None
        if told.is_over:
            return Found(reply, told=told)
        return Found(reply, _without_body(request, reply, told.attempt, facts)) if told.node is not None else None

    def take(self, dispatcher: Dispatcher, job: Job, ticket: Ticket | None, facts: Mapping[str, str]) -> OpenRequest:
        """Hold it open here, as it was there."""
        key, gives_up_at = facts.get("key", ""), facts.get("gives_up_at", "")
        near = ticket.lane.near if ticket is not None else None
        self._stage.ledger.note(job.id, hub=self._stage.hub, **({"near": near or ""} if facts.get("near") else {}))
        return dispatcher.adopt(
            job,
            ticket,
            wishes=Wishes(is_resumable=True, may_continue=facts.get("continues") != "0"),
            key=KeyId(key) if key else None,
            gives_up_at_ms=int(gives_up_at) if gives_up_at.isdecimal() else None,
        )

    async def finish(self, request: RequestId, reply: str, told: Retelling) -> None:
        """Write down the end of one that is over, in the dead hub's stead; its answer stays for a while."""
        await self._stage.requests.close(reply, int(self._stage.settings.answer_keep_s * 1000))
        facts: dict[str, str | float] = {"ended_at": self._stage.clock.now_ms(), "hub": self._stage.hub}
        if told.usage is not None:
            facts["status"] = RequestStatus.DONE.value
            facts["prompt_tokens"] = told.usage.prompt_tokens or 0
            facts["completion_tokens"] = told.usage.completion_tokens or 0
        else:
            facts["status"] = RequestStatus.FAILED.value
            facts["error"] = told.failure.code if told.failure else "internal_error"
        self._stage.ledger.note(request, **facts)
        self._stage.ledger.over(request)


def _without_body(request: RequestId, reply: str, attempt: int, facts: Mapping[str, str]) -> Job:
    """A job that a node runs and nobody can publish any more."""
    model, endpoint = ModelId(facts.get("model", "")), facts.get("endpoint", "")
    return Job(request, attempt, model, endpoint, is_stream(facts), b"", reply, deadline_ms=0)
