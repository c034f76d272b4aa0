"""A word to a request that has no reply yet: it waits at its hub for a turn, and only that hub knows of it."""

from common.broker.broker import Broker
from common.broker.errors import broker_errors, raise_first
from common.broker.line import Command
from common.broker.shapes import flat
from common.streams.replies import ReplyWrite, ringing


class LastWords:
    """Opens a reply in another hub's stead. Raises BrokerUnavailable or BrokerRefused."""

    def __init__(self, broker: Broker) -> None:
        self._line = broker.line

    async def leave(self, write: ReplyWrite, ttl_ms: int) -> None:
        """Make the reply with this entry in it, for so long, and ring its hub, which reads it like any other.

        No job can run past an entry with so late an id: the hub cannot open the reply any more, nor a provider claim.
        """
        said: Command = ("XADD", write.reply, str(write.id), *flat(write.entry.to_fields()))
        with broker_errors():
            raise_first(await self._line.ask((said, ("PEXPIRE", write.reply, ttl_ms))))
            await self._line.say(*ringing(write.doorbell, [write.request]))
