"""A word to a request that has no reply yet: it waits at its hub for a turn, and only that hub knows of it."""

from typing import Any

from common.broker.broker import Broker
from common.broker.errors import broker_errors
from common.streams.replies import DOORBELL_MAXLEN, ReplyWrite


class LastWords:
    """Opens a reply in another hub's stead. Raises BrokerUnavailable or BrokerRefused."""

    def __init__(self, broker: Broker) -> None:
        self._commands = broker.commands

    async def leave(self, write: ReplyWrite, ttl_ms: int) -> None:
        """Make the reply with this entry in it, for so long, and ring its hub, which reads it like any other.

        No job can run past an entry with so late an id: the hub cannot open the reply any more, nor a provider claim.
        """
        fields: dict[Any, Any] = {**write.entry.to_fields()}
        pipe = self._commands.pipeline(transaction=False)
        pipe.xadd(write.reply, fields, id=str(write.id))
        pipe.pexpire(write.reply, ttl_ms)
        with broker_errors():
            await pipe.execute()
            await self._commands.xadd(
                write.doorbell, {"ids": write.request}, maxlen=DOORBELL_MAXLEN, approximate=True, nomkstream=True
            )
