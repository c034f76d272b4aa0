"""What was delivered to this node: read, checked, and taken off the lanes."""

from functools import partial

import structlog

from common.errors import BrokerError, SignatureError, WireError
from common.keys import Keys
from common.streams.jobs import Delivery, JobLanes, Ticket
from common.tasks import keep_trying
from common.wire import Job
from provider.membership.access import Access

log = structlog.get_logger()

SETTLE_TRIES_S = 10.0
MOST_SHOWN_CHARS = 64
"""Of a name that may be anything."""


class Deliveries:
    """Says which deliveries are jobs that a hub we trust has published, and settles those that need no more work."""

    def __init__(self, lanes: JobLanes, keys: Keys, access: Access) -> None:
        self._lanes = lanes
        self._keys = keys
        self._access = access

    async def verified(self, delivery: Delivery) -> Job | None:
        """The job, if a hub that we trust has published it for this lane; otherwise it is taken off the lane."""
        if delivery.fields is None:
            await self.settle(delivery.ticket)
            return None
        try:
            job = Job.from_fields(delivery.fields)
            await self._verify(job)
            if job.model != delivery.ticket.lane.model:
                raise SignatureError(f"a job for {job.model!r} in the lane {delivery.ticket.lane}")
            self._keys.doorbell_of(job.reply)
        except (WireError, SignatureError, ValueError) as exc:
            await self._refuse(delivery, str(exc))
            return None
        return job

    def doorbell_of(self, job: Job) -> str:
        """The doorbell of the hub that has published a verified job."""
        return self._keys.doorbell_of(job.reply)

    async def _verify(self, job: Job) -> None:
        """Raise SignatureError unless a hub that we trust has signed it, with a key of today if need be."""
        signing, key_id = self._access.signing, job.sig.partition(":")[0]
        if signing and key_id not in dict(signing.keys):
            await self._access.learn_key(key_id)
        job.verify(self._access.signing)

    async def settle(self, ticket: Ticket, request: str = "") -> None:
        """Take a job off its lane, trying for a while; what fails is found again among this node's pending jobs."""
        settle = partial(self._lanes.settle, ticket, request)
        try:
            await keep_trying(settle, BrokerError, first_s=0.05, most_s=1, limit_s=SETTLE_TRIES_S)
        except BrokerError as exc:
            entry = ticket.entry.decode()
            log.warning("settle_failed", request=request or None, lane=str(ticket.lane), entry=entry, error=str(exc))

    async def _refuse(self, delivery: Delivery, reason: str) -> None:
        """Bury a job that nobody we trust has published."""
        fields = delivery.fields or {}
        request, (lane, entry) = fields.get(b"id", b"").decode(errors="replace"), delivery.ticket
        shown = request[:MOST_SHOWN_CHARS]  # nobody we trust has written it
        log.error("job_refused", request=shown, lane=str(lane), entry=entry.decode(), reason=reason)
        try:
            await self._lanes.bury(fields, reason)
        except BrokerError as exc:
            log.warning("bury_failed", request=shown, error=str(exc))
        await self.settle(delivery.ticket, request)
