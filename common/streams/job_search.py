"""Finds the job of a request in the lanes of its model. Whoever takes a request over does, and nobody else."""

from typing import Any

from common.broker.broker import Broker
from common.broker.errors import broker_errors
from common.broker.shapes import Fields
from common.errors import GHubError
from common.signing import SigningKeys
from common.streams.jobs import JobLanes, LaneName, Ticket, lanes_of
from common.types import Lane, ModelId, NodeId, RequestId
from common.wire import Job

PER_READ = 8
"""Bodies are long, and all that are read at once are held at once."""
MOST_READ = 20_000
"""Of one lane; its models' queues hold far fewer."""


class JobSearch:
    """Looks through lanes. Raises BrokerUnavailable or BrokerRefused.

    Args:
        signing: a job that these keys did not sign is none: whoever finds it may sign it anew.
    """

    def __init__(self, broker: Broker, signing: SigningKeys) -> None:
        self._commands = broker.commands
        self._keys = broker.keys
        self._lanes = JobLanes(broker)
        self._signing = signing

    async def find(
        self, request: RequestId, reply: str, model: ModelId, hint: Ticket | None, near: NodeId | None = None
    ) -> tuple[Job, Ticket] | None:
        """The newest attempt of a request that is in a lane of its model, and where.

        Args:
            request: whose job it is.
            reply: the job must name this one.
            model: whose lanes are looked through, if it is not where `hint` says.
            hint: where it is likely to lie.
            near: the node that it was meant for, if any: its own lane is looked through, too.
        """
        if hint is not None:
            fields = (await self._lanes.fetch(hint)).fields
            if fields is not None and (job := self._read(fields, request, reply)) is not None:
                return job, hint
        lanes = lanes_of([model]) if near is None else [*lanes_of([model]), LaneName(Lane.INTERACTIVE, model, near)]
        found = [one for lane in lanes for one in await self._find_in(lane, request, reply)]
        return max(found, key=lambda one: one[0].attempt, default=None)

    async def _find_in(self, lane: LaneName, request: RequestId, reply: str) -> list[tuple[Job, Ticket]]:
        found: list[tuple[Job, Ticket]] = []
        start, seen = "-", 0
        while seen < MOST_READ:
            with broker_errors():
                entries: Any = await self._commands.xrange(self._keys.lane(*lane), start, count=PER_READ)
            for entry, fields in entries:
                if (job := self._read(fields, request, reply)) is not None:
                    found.append((job, Ticket(lane, entry)))
            if len(entries) < PER_READ:
                break
            start, seen = f"({entries[-1][0].decode()}", seen + len(entries)
        return found

    def _read(self, fields: Fields, request: RequestId, reply: str) -> Job | None:
        if fields.get(b"id") != request.encode():
            return None
        try:
            job = Job.from_fields(fields)
            job.verify(self._signing)
        except GHubError:
            return None
        return job if job.reply == reply else None
