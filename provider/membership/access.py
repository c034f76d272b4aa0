"""How a provider comes by what it needs at the broker: lanes that are there, rights to them, and signing keys."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Protocol

from common.addresses import is_loopback
from common.broker.url import BrokerUrl
from common.errors import BrokerError, LaneMissing
from common.signing import SigningKeys
from common.streams.jobs import JobLanes, LaneName, lanes_of, near_lane
from common.types import ModelId, NodeId

LANES_INTERVAL_S = 300.0
"""How often lanes that are there are made once more: that keeps them in the set of lanes."""


class Access(Protocol):
    """What differs between a provider that registered at a hub and one that was told where the broker is."""

    changed: asyncio.Event
    """Set when `models` has changed; cleared by whoever waits for that."""

    @property
    def is_member(self) -> bool:
        """Whether a hub keeps the index of nodes for this one: it may write its own entry and no more."""

    @property
    def models(self) -> Collection[ModelId]:
        """Those whose lanes are there and may be read."""

    @property
    def near(self) -> LaneName | None:
        """The node's own lane, if there is one and it may be read."""

    @property
    def signing(self) -> SigningKeys:
        """The keys that jobs may be signed with, as they are now."""

    async def refresh(self) -> None:
        """See to it that `models` follows the engine. Called at each heartbeat, and never waits for a hub.

        Raises:
            BrokerError: lanes could not be made.
        """

    async def mend(self, error: BrokerError, within_s: float) -> None:
        """Do what can be done about an error of the broker, then let its caller try again: at most after so long."""

    async def learn_key(self, key_id: str) -> None:
        """Ask for a signing key that is not known here, where there is someone to ask."""


class SharedAccess:
    """Access to a broker that the provider was told of: it makes its lanes itself, and may do all that hubs may.

    `models` says which ones the engine has; `node` is whose own lane is made, too.
    """

    def __init__(
        self,
        lanes: JobLanes,
        models: Callable[[], Sequence[ModelId]],
        signing: SigningKeys,
        node: NodeId | None = None,
    ) -> None:
        self._lanes = lanes
        self._near = None if node is None else near_lane(node)
        self._wanted = models
        self._signing = signing
        self.changed = asyncio.Event()
        self._made: frozenset[ModelId] = frozenset()
        self._made_at_s = float("-inf")

    @property
    def is_member(self) -> bool:
        """No: it writes the index of nodes itself."""
        return False

    @property
    def models(self) -> Collection[ModelId]:
        """Those whose lanes it has made."""
        return self._made

    @property
    def near(self) -> LaneName | None:
        """The one that it makes, with the others."""
        return self._near if self._made else None

    @property
    def signing(self) -> SigningKeys:
        """Those that were set."""
        return self._signing

    async def refresh(self) -> None:
        """Make the lanes of the engine's models, if they are others than before or a while has passed."""
        now_s = asyncio.get_running_loop().time()
        if frozenset(self._wanted()) != self._made or now_s - self._made_at_s > LANES_INTERVAL_S:
            await self._make()
            self._made_at_s = now_s

    async def mend(self, error: BrokerError, within_s: float) -> None:
        """Make lanes that are missing; all else is waited for."""
        if isinstance(error, LaneMissing):
            with suppress(BrokerError):  # whoever calls tries again, and hears it then
                await self._make()
        await asyncio.sleep(within_s)

    async def learn_key(self, key_id: str) -> None:
        """Nobody to ask: keys are as they were set."""

    async def _make(self) -> None:
        models = frozenset(self._wanted())
        await self._lanes.ensure([*lanes_of(models), *([self._near] if self._near and models else [])])
        if models != self._made:
            self._made = models
            self.changed.set()


def is_bare(broker_url: str) -> bool:
    """Whether passwords and prompts go to this broker over a network without TLS."""
    url = BrokerUrl.parse(broker_url)
    return not url.has_tls and not all(is_loopback(one.host) for one in url.addresses)
