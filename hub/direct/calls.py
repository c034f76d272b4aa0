"""Says whether a direct call's HMAC is good: signed with a direct key, fresh, and never used before."""

from common.broker.clock import BrokerClock
from common.direct import SKEW_S, DirectCall, Nonce, verify_direct
from common.errors import DirectRefused
from common.records.nonces import Nonces
from common.signing import SigningKeys
from common.types import DirectRefusal
from hub.asking import asking_broker
from hub.settings import HubSettings

NONCE_SPARE_S = 5
"""How much longer a nonce is remembered than its HMAC can live: hubs' ideas of the broker's time differ a little, s."""


class DirectCalls:
    """Checks HMACs and uses up their nonces; all hubs of a grid agree on which were used."""

    def __init__(self, keys: SigningKeys, nonces: Nonces, clock: BrokerClock, settings: HubSettings) -> None:
        self._keys = keys
        self._nonces = nonces
        self._clock = clock
        self._window_s = settings.direct_window_s
        self._retry_after_s = settings.retry_after_s

    def verify(self, call: DirectCall, header: str) -> Nonce:
        """What can be told without the broker; nothing is used up, but what is returned is to be.

        Raises:
            DirectRefused: it is not to be let through, whether it was used before or not.
        """
        return verify_direct(self._keys, call, header, now_s=self._clock.now_ms() / 1000, window_s=self._window_s)

    async def use(self, nonce: Nonce) -> None:
        """Let a call that was verified through, once.

        Raises:
            DirectRefused: it was used before.
            BrokerAway: whether it was used before cannot be told, and it may be used up by now.
        """
        ttl_ms = int((self._window_s + SKEW_S + NONCE_SPARE_S) * 1000)
        with asking_broker("nonce", self._retry_after_s, "whether the HMAC was used before cannot be told"):
            is_first = await self._nonces.use(nonce.key_id, nonce.value, ttl_ms)
        if not is_first:
            raise DirectRefused(DirectRefusal.REPLAYED, "this HMAC was used before: make a new one for each call")
