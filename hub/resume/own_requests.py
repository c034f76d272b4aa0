"""A client's own requests: those that were made with its key, or with none where none is needed."""

from collections.abc import Mapping
from typing import Any

from common.records.idempotency import IdempotencyKeys, key_digest
from common.records.request_book import RequestBook, is_request_id, number_of
from common.types import RequestId
from hub.access.gatekeeper import Caller, Gatekeeper
from hub.asking import asking_broker
from hub.errors import InvalidRequest, NotFound, Unauthorized
from hub.recovery.facts import is_resumable, is_stream
from hub.settings import HubSettings

_TEXTS = ("status", "model", "endpoint", "node")
_NUMBERS = ("attempt", "queued_at", "claimed_at", "first_data_at", "ended_at")
_TOKENS = ("prompt_tokens", "completion_tokens")


class OwnRequests:
    """Finds requests for those who may know of them."""

    def __init__(
        self, gatekeeper: Gatekeeper, book: RequestBook, records: IdempotencyKeys, settings: HubSettings
    ) -> None:
        self._gatekeeper = gatekeeper
        self._book = book
        self._records = records
        self._settings = settings

    async def find(self, headers: Mapping[str, str], name: str) -> Mapping[str, str]:
        """The facts of a request.

        Raises:
            Unauthorized: who asks is not known.
            NotFound: there is no such request, or another key made it: which of the two is not told.
            BrokerAway: nobody can tell.
        """
        caller = None if self._is_operator(headers) else await self._gatekeeper.client(headers)
        facts: Mapping[str, str] | None = None
        if is_request_id(name):
            with asking_broker("request", self._settings.retry_after_s):
                facts = (await self._book.read([RequestId(name)])).get(RequestId(name))
        if not facts or "status" not in facts or (caller is not None and not self._is_own(caller, facts)):
            raise NotFound("There is no such request, or it ended too long ago.", code="request_not_found")
        return facts

    async def find_by_key(self, headers: Mapping[str, str]) -> RequestId:
        """The request that stands for the Idempotency-Key of whoever asks.

        Raises:
            InvalidRequest: there is no key.
            Unauthorized: who asks is not known.
            NotFound: the key stands for nothing.
            BrokerAway: nobody can tell.
        """
        caller = await self._gatekeeper.client(headers)
        key = headers.get("idempotency-key")
        if not key:
            raise InvalidRequest("Which request? Send its Idempotency-Key.", param="idempotency-key")
        with asking_broker("request", self._settings.retry_after_s):
            asked = await self._records.find(key_digest(caller.key_id, key))
        if asked is None:
            raise NotFound("This Idempotency-Key stands for no request.", code="request_not_found")
        return asked.request

    def _is_own(self, caller: Caller, facts: Mapping[str, str]) -> bool:
        key = facts.get("key")
        if key is None:
            return not self._settings.needs_client_keys
        return key == caller.key_id

    def _is_operator(self, headers: Mapping[str, str]) -> bool:
        try:
            self._gatekeeper.check_admin(headers)
        except Unauthorized:
            return False
        return True


def shown(request: RequestId, facts: Mapping[str, str]) -> dict[str, Any]:
    """A request as its client sees it. Times are Unix ms on the broker's clock."""
    tokens = {name: number_of(facts.get(name)) for name in _TOKENS}
    return {
        "id": request,
        "object": "request",
        **{name: facts.get(name) for name in _TEXTS},
        **{name: number_of(facts.get(name)) for name in _NUMBERS},
        "stream": is_stream(facts),
        "resumable": is_resumable(facts),
        "usage": tokens if any(count is not None for count in tokens.values()) else None,
        "error": {"code": facts["error"]} if facts.get("error") else None,
    }
