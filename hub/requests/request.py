"""A request from its admission to its end, as its hub sees it: its turn, its job, what came, what became of it.

Admitted, it waits for its turn (if it comes with a client key); then its job is published and waits in a lane; then a
node claims it, once or, where an attempt fails, several times.
"""

import asyncio
from collections.abc import Sequence

import structlog

from common.errors import BrokerError, ClientGone
from common.streams.jobs import Ticket
from common.succession import LoggedEntry
from common.tasks import keep_trying
from common.types import NodeId, RequestId, RequestStatus
from common.wire import EntryId, Job, ReplyEntry, Start, Usage
from hub.errors import AnswerTooLarge, BrokerAway, HandedOn, RequestFailed
from hub.relay.inbox import Inbox
from hub.relay.log import ReplyLog
from hub.requests.answer import Answer
from hub.requests.attempts import Attempts
from hub.requests.backstage import Backstage
from hub.requests.clocks import RequestClocks
from hub.requests.place import Place
from hub.requests.record import RequestRecord
from hub.requests.trail import RequestTrail
from hub.requests.watch import Watch
from hub.requests.wishes import NONE, Wishes

log = structlog.get_logger()

CALL_OFF_TRIES_S = 30.0


class OpenRequest:
    """One client's request. Its handler calls `advance` until `is_finished`, and the dispatcher `close` at its end.

    Args:
        job: unsigned, with its queue deadline.
        place: where it waits.
        inbox: of the job's reply.
        clocks: how long it waits.
        wishes: of its client.
        trail: its trace; None where nothing is traced.
    """

    def __init__(
        self,
        job: Job,
        place: Place,
        inbox: Inbox,
        backstage: Backstage,
        clocks: RequestClocks,
        wishes: Wishes = NONE,
        trail: RequestTrail | None = None,
    ) -> None:
        self.id: RequestId = job.id
        """Its name for its whole life."""
        self.place = place
        self.inbox = inbox
        """What has come and was not looked at yet."""
        self.wishes = wishes
        self.queued_ms: int | None = None
        """From admission to the first claim."""
        self.is_admitted = False
        """Whether its client has not been refused at once; set by the dispatcher."""
        self._stage = backstage
        self._clocks = clocks
        self.trail = trail
        self._record = RequestRecord(place, wishes, clocks, backstage, trail)
        self._attempts = Attempts(job, place, clocks, self._record, backstage, trail)
        self._answer = Answer(job.id, is_stream=job.stream)
        self._watch = Watch(self._attempts, place, inbox, clocks, backstage)
        self._client_gone = False
        self._ended_by: RequestFailed | None = None
        self._is_handed_on = False
        self._flows = 0
        """The attempt whose further data need no more than to be passed on; 0: none."""
        self.closed = asyncio.Event()
        """Set when its handler is done with it."""
        self.failed_with: RequestFailed | None = None
        """What the client was told instead of an answer; set by the handler."""
        clocks.set_alarm(inbox.poke)

    @property
    def job(self) -> Job:
        """As it was published last."""
        return self._attempts.job

    @property
    def node(self) -> NodeId | None:
        """Who has claimed it; None while it waits."""
        return self._attempts.node

    @property
    def start(self) -> Start | None:
        """How its answer began; None before that."""
        return self._answer.start

    @property
    def usage(self) -> Usage | None:
        """What it used; None before its end."""
        return self._answer.usage

    @property
    def is_waiting(self) -> bool:
        """Whether no node has it."""
        return self.node is None

    @property
    def log(self) -> ReplyLog:
        """Everything that came, for those who read along."""
        return self.inbox.log

    @property
    def is_finished(self) -> bool:
        """Whether the answer is whole."""
        return self.usage is not None

    @property
    def error(self) -> RequestFailed | None:
        """Why there is no whole answer; None if there is one, or nobody waits for it."""
        return self.failed_with or (None if self.is_finished else self._ended_by)

    @property
    def age_s(self) -> float:
        """Seconds since it was admitted."""
        return self._clocks.age_s

    @property
    def untaken_bytes(self) -> int:
        """How long that is which `take` would give."""
        return self._answer.untaken_bytes

    def take(self) -> bytes:
        """What of the answer has come and was not taken yet; of one that isn't streamed, nothing before its end."""
        return self._answer.take()

    def abandon(self) -> None:
        """The client is gone: `advance` raises ClientGone."""
        self._client_gone = True
        self.inbox.poke()

    def miss(self, ticket: Ticket) -> None:
        """Its job is no longer where this ticket says, and was not claimed as far as is known."""
        self._watch.missing = ticket
        self.inbox.poke()

    def end(self, error: RequestFailed) -> None:
        """End it from outside, as a stopping hub does: `advance` raises the error."""
        self._ended_by = error
        self.inbox.poke()

    def hand_on(self) -> None:
        """This hub stops: leave it in the broker as it is, for another hub to look after; `advance` raises HandedOn."""
        self._is_handed_on = True
        self.end(HandedOn("this hub is stopping; another one looks after this request"))

    async def advance(self) -> None:
        """Wait for news, or for a moment to look at the clocks; then `take` what came.

        Raises:
            RequestFailed: there will be no (whole) answer.
            ClientGone: after `abandon`.
        """
        await self.inbox.wait()
        if self._client_gone:
            raise ClientGone("the client closed the connection")
        if self.place.ticket is None and self._ended_by is None:
            self.place.look()
            if self.place.has_turn:
                await self._publish_late()
        entries = self.inbox.take()
        await self._take_in(entries)
        if self.inbox.was_skipped:
            await self._catch_up()
        if self.is_finished:
            return
        if self._ended_by is not None:
            raise self._ended_by
        self._clocks.check_deadline()
        if not entries:
            await self._watch.look(has_begun=self._answer.has_begun)

    async def publish(self) -> None:
        """Add its job to its lane; its turn has come. RequestFailed if that cannot be."""
        await self._attempts.publish()

    def wait_for_turn(self) -> None:
        """Show that it waits, though there is no job of it yet."""
        self._record.note(self.job, RequestStatus.QUEUED, **self._record.facts(self.job))

    async def close(self) -> None:
        """Leave nothing behind: the reply goes, a job that still waits is withdrawn, a node that runs it is told.

        One that was handed on stays as it is.
        """
        if self.trail is not None and self.is_admitted:
            self.trail.ended(self)
        self._stage.affinity.ended(self.id, self.node if self._answer.has_data else None)
        self._stage.reader.close(self.inbox)
        self.inbox.log.close()
        self._clocks.stop()
        if self._is_handed_on:
            self._end_turn()
            return
        if self.is_admitted:
            self._record.ended(self.job, self.usage, self.failed_with)
            await self._record.count(self.job, self.usage)
        if self.is_finished or not self.place.may_be_published:
            self._end_turn()
        if not self.place.may_be_published:
            return
        try:
            await keep_trying(self.leave_broker, BrokerError, first_s=0.1, most_s=5, limit_s=CALL_OFF_TRIES_S)
        except BrokerError as exc:  # the reply ends by its TTL, and the job with it
            log.warning("call_off_failed", request=self.id, error=str(exc))
        finally:
            self._end_turn()  # only now: the next one must not run beside it
            self._stage.ledger.over(self.id)
            self._stage.endings.note(self.id, self._record.final, self.place.ticket)

    async def leave_broker(self) -> None:
        """Take it out of the broker; may be repeated. BrokerError if that fails."""
        settings, requests, ticket = self._stage.settings, self._stage.requests, self.place.ticket
        answer_keep_s = min(settings.answer_keep_s, settings.request_ttl_s)
        keep_ms = int((answer_keep_s if self.wishes.is_resumable else settings.reply_linger_s) * 1000)
        if self.is_finished:
            if ticket is not None and self.is_waiting:  # an attempt that was given up ended it all the same
                await self._stage.lanes.withdraw(ticket, self.id)
            await requests.close(self.job.reply, keep_ms)
            return
        if self._attempts.is_handed_back and ticket is not None:
            await self._stage.lanes.settle(ticket, self.id)
        node = self.node if self._attempts.is_running else None
        error = self.error
        if self.wishes.is_resumable and error is not None:  # whoever asks for it later is to hear that
            await requests.say_last_word(self.job.reply, error.as_failure(), keep_ms)
            await requests.call_off(self.id, None, ticket, node)
        else:
            await requests.call_off(self.id, self.job.reply, ticket, node)

    async def _publish_late(self) -> None:
        """Its turn has come while its client waits: a broker that is away is waited for."""
        try:
            await self.publish()
        except BrokerAway:
            self._clocks.check_broker()

    def _end_turn(self) -> None:
        is_free = self.queued_ms is None or (self.failed_with is not None and not self._answer.has_data)
        self.place.leave(self.usage, is_free=is_free)

    async def _take_in(self, entries: Sequence[LoggedEntry]) -> None:
        for entry_id, entry in entries:
            if entry_id.attempt == self._flows and entry.is_data:
                self._attempts.flows_on()
                self._answer.flow(entry_id, entry.data)
            elif self.is_finished:  # who claims it now comes too late, and finds that in the reply
                return
            else:
                await self._apply(entry_id, entry)

    async def _apply(self, entry_id: EntryId, entry: ReplyEntry) -> None:
        self._flows = 0
        self._attempts.heard(entry_id, entry)
        is_current = entry_id.attempt == self.job.attempt  # a late word of one that was given up may come after that
        if entry.claim is not None and is_current:
            self._claimed(entry.claim)
        self._answer.add(entry_id, entry)
        if entry.data:
            self._record.streaming(self.job)
            may_flow = is_current and self._answer.may_flow and not self.wishes.is_resumable
            self._flows = entry_id.attempt if may_flow else 0
        if self.wishes.is_resumable and not self.log.is_whole:
            limit = self._stage.settings.max_reply_bytes
            raise AnswerTooLarge(f"an answer that can be resumed may be at most {limit} bytes long")
        if self.is_finished:
            return
        if entry.error is not None and (is_current or not entry.error.retryable):
            await self._attempts.failed(entry.error, has_begun=self._answer.has_begun)
        elif entry.release is not None and is_current:
            await self._attempts.released(entry.release, has_begun=self._answer.has_begun)

    def _claimed(self, node: NodeId) -> None:
        self._attempts.claimed(node)
        if self.queued_ms is None:
            self.queued_ms = int(self.age_s * 1000)
            self.place.claimed()

    async def _catch_up(self) -> None:
        """Read what was left in the broker while the client was behind."""
        try:
            await self._stage.reader.fetch([self.inbox])
        except BrokerError as exc:  # the reader's own look at all replies comes within the second
            log.warning("broker_unavailable", doing="resume", error=str(exc))
