"""Tickets for direct calls: a client that may use a model is sent straight to an idle node that serves it."""

import random
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictStr

from common.broker.clock import BrokerClock
from common.direct import HEADER, DirectCall, sign_direct
from common.endpoints import ENDPOINTS
from common.records.grid import NodeRecord
from common.signing import SigningKeys
from common.types import ModelId, NodeState
from hub.access.gatekeeper import Caller
from hub.asking import asking_broker
from hub.errors import Conflict, InvalidRequest, ModelForbidden, ModelUnavailable
from hub.grid.registry_view import RegistryView
from hub.requests.turns import Turns
from hub.settings import HubSettings

DIRECT_ENDPOINTS = ("/v1/chat/completions", "/v1/completions")
"""What providers serve to direct callers."""


class DirectWish(BaseModel):
    """A call that a client wants to make to a provider itself."""

    model_config = ConfigDict(extra="ignore", use_attribute_docstrings=True)

    model: Annotated[StrictStr, Field(min_length=1, max_length=256)]
    endpoint: Annotated[StrictStr, Field(max_length=1024)]
    """`/v1/chat/completions` or `/v1/completions`."""
    body_sha256: Annotated[StrictStr, Field(pattern="^[0-9a-f]{64}$")]
    """Of the body as it will be sent, lower case hex."""


class DirectTickets:
    """Finds a node, and signs for one call to it with the first of the direct keys."""

    def __init__(
        self, keys: SigningKeys, view: RegistryView, turns: Turns, clock: BrokerClock, settings: HubSettings
    ) -> None:
        self._keys = keys
        self._view = view
        self._turns = turns
        self._clock = clock
        self._window_s = settings.direct_window_s
        self._retry_after_s = settings.retry_after_s

    async def issue(self, caller: Caller, wish: DirectWish) -> dict[str, Any]:
        """Where to send the call, and the header that lets it through once, for this body, until `expires_at` (Unix s).

        Raises:
            InvalidRequest: providers serve no such endpoint to direct callers.
            Conflict: this hub has no direct keys.
            ModelNotFound: no node ever served the model.
            ModelForbidden: the caller's key does not allow it, or not all that the nodes serve which serve it.
            ModelUnavailable: no node that can be reached is idle now.
            RateLimited: the caller's key has used up its minute; a ticket counts as a request.
            BrokerAway: the broker cannot be asked.
        """
        if wish.endpoint not in DIRECT_ENDPOINTS:
            raise InvalidRequest(
                f"Providers serve {' and '.join(DIRECT_ENDPOINTS)} to direct callers.",
                code="endpoint_not_supported",
                param="endpoint",
            )
        if not self._keys:
            raise Conflict(
                "This hub signs no direct calls: set GHUB_HUB_DIRECT_KEYS on the hubs.", code="direct_keys_not_set"
            )
        with asking_broker("ticket", self._retry_after_s):
            model = await self._view.find(ModelId(wish.model))
        if model is None:
            raise self._view.names.not_found(ModelId(wish.model))
        caller.check_model(ModelId(wish.model), model)
        node = self._idle_node(model, wish.endpoint, caller)
        if caller.key is not None:
            await self._turns.count_request(caller.key)
        now_s = self._clock.now_ms() // 1000
        hmac = sign_direct(self._keys, DirectCall(node.node, wish.endpoint, wish.body_sha256), now_s)
        return {
            "url": node.public_url.rstrip("/") + wish.endpoint,
            "node": node.node,
            "model": model,
            "headers": {HEADER: hmac},
            "expires_at": now_s + int(self._window_s),
        }

    def _idle_node(self, model: ModelId, endpoint: str, caller: Caller) -> NodeRecord:
        """One of those with the most free slots, all of whose models the caller may use: no hub sees what it sends."""
        able = [
            node
            for node in self._view.models.get(model, [])
            if node.public_url and node.state is NodeState.IDLE and _can_serve(node, endpoint)
        ]
        if not able:
            raise ModelUnavailable(
                f"No idle node with a public URL serves the model {model!r} now.",
                code="no_direct_node",
                retry_after_s=self._retry_after_s,
            )
        allowed = [node for node in able if all(caller.sees(one) for one in node.models)]
        if not allowed:
            raise ModelForbidden(
                f"The nodes that serve {model!r} serve models too that this API key may not use: ask through the hub.",
                param="model",
            )
        most = max(_free_slots(node) for node in allowed)
        return random.choice([node for node in allowed if _free_slots(node) == most])  # noqa: S311 - spreads load, no secret


def _free_slots(node: NodeRecord) -> int:
    return node.slots - len(node.requests)


def _can_serve(node: NodeRecord, endpoint: str) -> bool:
    """Whether its engine says that it can; one that doesn't say is believed to."""
    capabilities = node.engine.get("capabilities") or [ENDPOINTS[endpoint].needs]
    return isinstance(capabilities, list) and ENDPOINTS[endpoint].needs in capabilities
