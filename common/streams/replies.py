"""Replies and doorbells: one stream a request carries the answer, one stream a hub says which have news."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from common.broker.broker import BLOCK_MS, Broker
from common.broker.errors import broker_errors, is_behind, is_passing, raise_first
from common.broker.line import Answer, Argument, Command, ConnectedAnewError
from common.broker.scripts import Script
from common.broker.shapes import Fields, entries_of, flat, is_used_up
from common.errors import WireError
from common.succession import LoggedEntry, Succession
from common.types import HubId, RequestId
from common.wire import OPENING_ID, EntryId, ReplyEntry

DOORBELL_MAXLEN = 1000
ENTRIES_PER_PAGE = 256
_RESTORE = Script("restore_reply")
_BEFORE_ALL = b"0-0"


class Written(Enum):
    """What became of an entry."""

    YES = "yes"
    GONE = "gone"
    """The reply is no more: the request is over."""
    FENCED = "fenced"
    """The broker holds this entry or a later one: a newer attempt has begun, or this was written before."""
    REFUSED = "refused"
    """It will never take it: not allowed, or the key is something else."""
    UNSENT = "unsent"
    """The connection was made anew, and the broker may have forgotten things: nothing was said."""


@dataclass(frozen=True, slots=True)
class ReplyWrite:
    """An entry on its way to a reply."""

    reply: str
    doorbell: str
    request: RequestId
    id: EntryId
    entry: ReplyEntry


class ReplyStreams:
    """Both ends of replies. Raises BrokerUnavailable or BrokerRefused from every method."""

    def __init__(self, broker: Broker) -> None:
        self._commands = broker.commands
        self._line = broker.line
        self._reconnections = broker.reconnections

    # the provider's end

    @property
    def renewals(self) -> int:
        """Rises with each connection that was lost and made again, and with the first that `write` uses.

        As long as it stays, the broker has everything that it said yes to.
        """
        return self._reconnections.count + self._line.renewals

    async def write(self, writes: Sequence[ReplyWrite], *, since: int | None = None) -> list[Written]:
        """Append entries and ring each hub once, in one round trip.

        NOMKSTREAM: a reply that is gone is not written again, and a hub that is gone is not rung. Ids are explicit, so
        the same call may be repeated after a lost answer.

        Args:
            writes: the entries; those of one reply in order.
            since: `renewals` as it was when these replies were known to be whole. If it has risen, nothing is written:
                a broker that has forgotten the end of a reply would take what comes next, and leave a hole before it.
        """
        commands: list[Command] = []
        rings: dict[str, list[RequestId]] = {}
        for write in writes:
            commands.append(("XADD", write.reply, "NOMKSTREAM", str(write.id), *flat(write.entry.to_fields())))
            rings.setdefault(write.doorbell, []).append(write.request)
        commands += [ringing(doorbell, requests) for doorbell, requests in rings.items()]
        line_since = None if since is None else since - self._reconnections.count
        with broker_errors():
            try:
                answers = await self._line.ask(commands, since=line_since)
            except ConnectedAnewError:
                return [Written.UNSENT] * len(writes)
            return [_written(answer) for answer in answers[: len(writes)]]

    async def last_id(self, reply: str) -> EntryId | None:
        """Id of the newest entry of a reply; None if it is gone."""
        (newest,) = await self.last_ids([reply])
        return newest

    async def before(self, reply: str, attempt: int) -> list[LoggedEntry]:
        """What counts of all that earlier attempts said, in order.

        Complete once an entry of this attempt is in: they are fenced then.

        Raises:
            WireError: an entry is not what it should be.
        """
        found: list[LoggedEntry] = []
        start = str(EntryId(1, 0))
        while True:
            with broker_errors():
                entries: Any = await self._commands.xrange(reply, start, f"({attempt}-0", count=ENTRIES_PER_PAGE)
            found += [(EntryId.parse(one), ReplyEntry.from_fields(fields)) for one, fields in entries]
            if len(entries) < ENTRIES_PER_PAGE:
                succession = Succession()
                return [one for one in found if succession.counts(one[0])]
            start = f"({found[-1][0]}"

    async def newest(self, replies: Sequence[str]) -> list[tuple[EntryId, Fields] | None]:
        """The newest entry of each reply; None for each that is gone, or cannot be read."""
        pipe = self._commands.pipeline(transaction=False)
        for reply in replies:
            pipe.xrevrange(reply, count=1)
        with broker_errors():
            answers = await pipe.execute(raise_on_error=False)
            return [_entry_of(answer) for answer in answers]

    async def fates(self, attempts: Sequence[tuple[str, int]]) -> list[Written]:
        """What would become of an entry of each of these (reply, attempt) now: YES, GONE or FENCED."""
        pipe = self._commands.pipeline(transaction=False)
        for reply, attempt in attempts:
            pipe.exists(reply)
            pipe.xrange(reply, f"{attempt + 1}-0", count=1)
        with broker_errors():
            answers = await pipe.execute()
        return [
            Written.GONE if not is_there else Written.FENCED if newer else Written.YES
            for is_there, newer in zip(answers[::2], answers[1::2], strict=True)
        ]

    # the hub's end

    def opening(self, reply: str, ttl_ms: int) -> list[Command]:
        """The commands that open a reply, which lives as long as its hub renews it."""
        return [("XADD", reply, OPENING_ID, "open", "1"), ("PEXPIRE", reply, ttl_ms)]

    async def restore(self, reply: str, entries: Sequence[LoggedEntry], ttl_ms: int) -> bool:
        """Give the broker back what it lost of a reply; whether it had lost it altogether.

        In one step, so that no provider can write in between: what it says comes behind all of these entries. Those
        that are there, or older than the newest that is there, are passed over.
        """
        args: list[Argument] = [OPENING_ID, ttl_ms]
        for entry_id, entry in entries:
            fields = flat(entry.to_fields())
            args += [str(entry_id), len(fields), *fields]
        with broker_errors():
            return bool(await _RESTORE.run(self._line, [reply], args))

    async def last_ids(self, replies: Sequence[str]) -> list[EntryId | None]:
        """Id of the newest entry of each reply; None for each that is gone."""
        pipe = self._commands.pipeline(transaction=False)
        for reply in replies:
            pipe.xrevrange(reply, count=1)
        with broker_errors():
            found = await pipe.execute()
        return [EntryId.parse(newest[0][0]) if newest else None for newest in found]

    async def keep(self, replies: Sequence[str], ttl_ms: int) -> list[bool]:
        """Renew open replies, at least one; False for each that the broker no longer has.

        On the line, as all that ends a reply: on another connection it could come behind that, and undo it.
        """
        with broker_errors():
            answers = await self._line.ask([("PEXPIRE", reply, ttl_ms) for reply in replies])
            raise_first(answers)
        return [bool(one) for one in answers]

    async def read(self, after: Mapping[str, EntryId], count: int) -> dict[str, list[LoggedEntry] | WireError]:
        """What is new in these replies, at most so many entries of each, without waiting; or why it is unreadable."""
        with broker_errors():
            answer = await self._line.say("XREAD", "COUNT", count, "STREAMS", *after, *map(str, after.values()))
        found: dict[str, list[LoggedEntry] | WireError] = {}
        for key, entries in answer or ():
            try:
                found[key.decode()] = [(EntryId.parse(entry_id), ReplyEntry.read(flat)) for entry_id, flat in entries]
            except WireError as exc:
                found[key.decode()] = exc
        return found


def ringing(doorbell: str, requests: Iterable[RequestId]) -> Command:
    """The command that tells a hub which of its requests have news; one that is gone is not rung."""
    ids = " ".join(dict.fromkeys(requests))
    return ("XADD", doorbell, "NOMKSTREAM", "MAXLEN", "~", DOORBELL_MAXLEN, "*", "ids", ids)


class Doorbell:
    """A hub's own doorbell, and how far it has been heard. Raises BrokerUnavailable or BrokerRefused."""

    def __init__(self, broker: Broker, hub: HubId) -> None:
        self._commands = broker.commands
        self._blocking = broker.blocking_line()
        self._key = broker.keys.doorbell(hub)
        self._heard = _BEFORE_ALL

    async def keep(self, ttl_ms: int) -> None:
        """Renew it; make it if it is missing, or if its ids are used up, so that nobody could ring it any more."""
        with broker_errors():
            if await self._commands.pexpire(self._key, ttl_ms):
                if not await is_used_up(self._commands, self._key):
                    return
                await self._commands.delete(self._key)  # what it told is found by the reader's look at all
            self._heard = _BEFORE_ALL  # a broker that came back with another clock may begin with lower ids
            await self._commands.xadd(self._key, {"ids": ""}, maxlen=DOORBELL_MAXLEN)
            await self._commands.pexpire(self._key, ttl_ms)

    def hear_again(self) -> None:
        """Hear all that it still tells: a promoted replica may go on with lower ids than those that were heard."""
        self._heard = _BEFORE_ALL

    async def wait(self, block_ms: int = BLOCK_MS) -> set[RequestId]:
        """Block until it rings or the time is up; the requests that have news."""
        with broker_errors():
            answer = await self._blocking.say("XREAD", "BLOCK", block_ms, "STREAMS", self._key, self._heard)
        rung: set[RequestId] = set()
        for _, entries in entries_of(answer):
            for entry_id, fields in entries:
                self._heard = entry_id
                ids = (fields or {}).get(b"ids", b"")
                rung.update(RequestId(one) for one in ids.decode(errors="replace").split())
        return rung


def _written(result: object) -> Written:
    if result is None:
        return Written.GONE
    if not isinstance(result, Exception):
        return Written.YES
    if is_behind(result):
        return Written.FENCED
    if is_passing(result):
        raise result
    return Written.REFUSED


def _entry_of(answer: Answer) -> tuple[EntryId, Fields] | None:
    if isinstance(answer, Exception):
        if is_passing(answer):
            raise answer
        return None
    return (EntryId.parse(answer[0][0]), answer[0][1]) if answer else None
