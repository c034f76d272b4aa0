"""Jobs that are this node's by name but do not run here."""

import structlog

from common.broker.shapes import Fields
from common.errors import WireError
from common.streams.jobs import Delivery
from common.streams.replies import ReplyStreams
from common.wire import RELEASED_BY_RESTART, EntryId, Job, ReplyEntry
from provider.jobs.deliveries import Deliveries
from provider.jobs.looking_back import is_over
from provider.jobs.own_lanes import OwnLanes
from provider.jobs.runner import Runner
from provider.replies.reopening import ReopenWindow

log = structlog.get_logger()


class FormerJobs:
    """Deals with the jobs of a former process of this name, and with those whose delivery was lost with a connection.

    Those that were given back to a hub that is gone are among them, too.
    """

    def __init__(
        self, lanes: OwnLanes, replies: ReplyStreams, deliveries: Deliveries, runner: Runner, window: ReopenWindow
    ) -> None:
        self._lanes = lanes
        self._replies = replies
        self._deliveries = deliveries
        self._runner = runner
        self._window = window

    async def adopt(self) -> bool:
        """Look for them; False if some were left for a later look.

        Raises:
            BrokerError: it could not be looked.
        """
        is_done = True
        async for delivery in self._lanes.former():
            if not self._runner.has(delivery.ticket):
                is_done &= await self._adopt_one(delivery)
        return is_done

    async def _adopt_one(self, delivery: Delivery) -> bool:
        """Deal with one; False if its reply is missing and its hub may yet reopen it."""
        ticket = delivery.ticket
        job = await self._deliveries.verified(delivery)
        if job is None:
            return True
        (newest,) = await self._replies.newest([job.reply])
        if self._runner.has(ticket):
            return True
        if newest is None and self._window.is_open:
            return False
        if newest is None or newest[0].attempt > job.attempt:  # over, or run by someone else
            await self._deliveries.settle(ticket, job.id)
        elif newest[0].attempt < job.attempt:  # delivered, but never begun
            await self._runner.start(delivery)
        else:
            await self._end_begun(delivery, job, *newest)
        return True

    async def _end_begun(self, delivery: Delivery, job: Job, last: EntryId, fields: Fields) -> None:
        """Do what a former process of this name has left undone of an attempt that it had begun."""
        log.info("job_found_begun", request=job.id, attempt=job.attempt)
        try:
            entry = ReplyEntry.from_fields(fields)
        except WireError:
            entry = ReplyEntry()
        if is_over([(last, entry)]):  # all was said, but the job is still in its lane
            await self._deliveries.settle(delivery.ticket, job.id)
        else:
            await self._runner.give_back(delivery, entry.release or RELEASED_BY_RESTART, after=last)
