"""What a hub looks at while a request has no news: the broker, the queue, the node that has it, the job itself."""

from common.errors import BrokerError
from common.streams.jobs import Ticket
from hub.errors import BrokerAway, RequestFailed
from hub.relay.inbox import Inbox
from hub.requests.attempts import Attempts
from hub.requests.backstage import Backstage
from hub.requests.clocks import RequestClocks
from hub.requests.place import Place


class Watch:
    """Over one request. It sees what is lost, and has the next attempt made."""

    def __init__(
        self, attempts: Attempts, place: Place, inbox: Inbox, clocks: RequestClocks, backstage: Backstage
    ) -> None:
        self._attempts = attempts
        self._place = place
        self._inbox = inbox
        self._clocks = clocks
        self._stage = backstage
        self.missing: Ticket | None = None
        """Where its job was to be and perhaps is not."""

    async def look(self, *, has_begun: bool) -> None:
        """Look once. RequestFailed if it has waited long enough, or cannot be tried again.

        Args:
            has_begun: whether its client may have heard a part of the answer.
        """
        self._clocks.check_broker()
        if self._inbox.is_lost:
            raise BrokerAway("the broker lost this request", retry_after_s=self._stage.settings.retry_after_s)
        if self._was_shaken():
            self.missing = self._place.ticket
        if self._attempts.is_owed:
            await self._attempts.requeue()
        elif self._attempts.node is None:
            await self._look_at_queue(has_begun=has_begun)
        else:
            await self._look_at_node(has_begun=has_begun)

    async def _look_at_queue(self, *, has_begun: bool) -> None:
        if self._inbox.is_unread:  # it may run for long, and have waited long enough before that
            if await self._has_late_news():
                return
            self._inbox.is_unread = False
        if self._place.is_overdue:
            await self._attempts.move_on()
        try:
            self._clocks.check_queue(self._attempts.job, self._stage.clock.now_ms(), has_begun=has_begun)
        except RequestFailed as exc:
            if has_begun:
                raise self._attempts.lost_in_vain(exc) from exc
            raise
        if self.missing is not None and self.missing == self._place.ticket:
            await self._look_for_job(self.missing, has_begun=has_begun)

    async def _look_at_node(self, *, has_begun: bool) -> None:
        node, request = self._attempts.node, self._attempts.job.id
        if node is None:
            return
        if self._inbox.broken_attempt == self._attempts.job.attempt:
            await self._attempts.broken(has_begun=has_begun)
            return
        is_gone = self._clocks.is_node_gone(node)
        is_forgotten = self._clocks.is_forgotten(node, request, self._stage.clock.now_ms())
        if not (is_gone or is_forgotten) or await self._has_late_news():
            return
        if is_gone:
            await self._attempts.node_gone(has_begun=has_begun)
        else:
            await self._attempts.forgotten(has_begun=has_begun)

    async def _look_for_job(self, ticket: Ticket, *, has_begun: bool) -> None:
        """A job that was run or given back has said so in its reply before it left its lane; else nobody ever will."""
        try:
            if (await self._stage.lanes.fetch(ticket)).fields is not None:
                self.missing = None
                return
            await self._stage.reader.check(self._inbox)
            await self._stage.reader.fetch([self._inbox])
        except BrokerError:
            return  # the next look comes soon
        self.missing = None
        self._was_shaken()
        if not self._inbox.has_news:
            await self._attempts.job_lost(has_begun=has_begun)

    async def _has_late_news(self) -> bool:
        """Whether the node has said something that was not read yet, its last word perhaps; so too if nobody knows.

        If the reply is gone that comes first: it is given back, and the next look is at what became of the node since.
        """
        try:
            await self._stage.reader.check(self._inbox)
            await self._stage.reader.fetch([self._inbox])
        except BrokerError:
            return True
        return self._inbox.was_shaken or self._inbox.has_news or self._inbox.is_full

    def _was_shaken(self) -> bool:
        """Whether the broker may have lost things since the last look."""
        was_shaken, self._inbox.was_shaken = self._inbox.was_shaken, False
        if was_shaken:
            self._attempts.shaken()
        return was_shaken
