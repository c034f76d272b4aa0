"""What earlier attempts of a job have said, as an attempt reads it that has fenced them off."""

import asyncio
from collections.abc import Sequence

from common.errors import BrokerError, BrokerUnavailable
from common.streams.replies import ReplyStreams
from common.succession import LoggedEntry
from common.tasks import backoff_s
from common.types import NodeId
from common.wire import EntryId
from provider.replies.reply import Reply


async def read_earlier(streams: ReplyStreams, reply: Reply, node: NodeId, limit_s: float) -> list[LoggedEntry]:
    """What counts of all that earlier attempts have said, in order, once this node's claim stands behind it.

    A broker that has just forgotten things may lack the claim, and with it more: then the writer and the hub bring back
    what they know, and it is read once more.

    Args:
        streams: where to read.
        reply: of this attempt, whose claim was written.
        node: this node.
        limit_s: for how long to try.

    Raises:
        BrokerError: it could not be read within the limit.
        WireError: an entry is not what it should be.
    """
    job = reply.job
    claim = EntryId(job.attempt, 0)
    give_up_at = asyncio.get_running_loop().time() + limit_s
    waits = backoff_s(0.05, 1)
    while True:
        error: BrokerError = BrokerUnavailable("the reply lacks what was written to it")
        try:
            found = await streams.before(job.reply, job.attempt + 1)
            if found and found[-1][0] == claim and found[-1][1].claim == node:
                return found[:-1]
        except BrokerError as exc:
            error = exc
        pause = next(waits)
        if asyncio.get_running_loop().time() + pause > give_up_at:
            raise error
        await asyncio.sleep(pause)


def is_over(earlier: Sequence[LoggedEntry]) -> bool:
    """Whether nothing is left to do: the answer was ended, or failed for good."""
    return any(entry.end is not None or (entry.error and not entry.error.retryable) for _, entry in earlier)
