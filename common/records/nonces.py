"""Nonces of direct calls: each is good once in the whole grid, whichever hub is asked."""

from common.broker.broker import Broker
from common.broker.errors import broker_errors


class Nonces:
    """The nonces that were used, kept in the broker until their HMACs have expired."""

    def __init__(self, broker: Broker) -> None:
        self._commands = broker.commands
        self._keys = broker.keys

    async def use(self, key_id: str, nonce: str, ttl_ms: int) -> bool:
        """Use a nonce up; False if it was used before.

        Args:
            key_id: the direct key it was signed with; keys don't share nonces.
            nonce: what the caller chose.
            ttl_ms: how long it is remembered: as long as its HMAC could be accepted.

        Raises:
            BrokerError: nobody can tell. It may be used up all the same.
        """
        with broker_errors():
            return bool(await self._commands.set(self._keys.nonce(key_id, nonce), 1, nx=True, px=ttl_ms))
