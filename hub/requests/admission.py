"""Whether a request may be published, for which model and to which lane."""

from collections.abc import Iterable
from dataclasses import dataclass

from common.endpoints import ENDPOINTS
from common.errors import BrokerError
from common.records.grid import NodeRecord
from common.types import Lane, ModelId
from hub.access.gatekeeper import ANYONE, Caller
from hub.errors import ApiNotServed, BrokerAway, HubFull, LaneForbidden, ShuttingDown
from hub.grid.registry_view import RegistryView
from hub.requests.trail import RequestTrail
from hub.requests.wishes import NONE, Wishes
from hub.settings import HubSettings


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client asked for: the path an engine is to be asked under, and the body as it came."""

    endpoint: str
    """One of `common.endpoints.ENDPOINTS`."""
    model: ModelId
    """As the client wrote it."""
    body: bytes
    stream: bool
    caller: Caller = ANYONE
    lane: Lane | None = None
    """The lane it asked for; None: that of its key."""
    deadline_s: float | None = None
    """How long it waits for the whole answer, s; None: for ever."""
    trace: str = ""
    """Its client's W3C traceparent."""
    wishes: Wishes = NONE
    trail: RequestTrail | None = None
    """None where nothing is traced."""


class Admission:
    """Lets requests in, or says why not."""

    def __init__(self, settings: HubSettings, view: RegistryView) -> None:
        self._settings = settings
        self._view = view

    async def admit(self, submission: Submission, open_count: int, *, is_draining: bool) -> ModelId:
        """The name under which its model is known, if the request may be published.

        Args:
            submission: what is asked for.
            open_count: how many requests this hub holds open.
            is_draining: whether it takes no more.

        Raises:
            RequestFailed: it may not.
        """
        settings, caller, view = self._settings, submission.caller, self._view
        if is_draining:
            raise ShuttingDown("this hub is stopping", retry_after_s=settings.retry_after_s)
        if open_count >= settings.max_open_requests:
            raise HubFull("this hub holds as many requests as it may", retry_after_s=settings.retry_after_s)
        if not await view.hears():  # or each request would wait for its own command to time out
            raise BrokerAway("the broker does not answer", retry_after_s=settings.retry_after_s)
        try:
            model = await view.find(submission.model)
        except BrokerError as exc:
            raise BrokerAway("the broker does not answer", retry_after_s=settings.retry_after_s) from exc
        if model is None:
            raise view.names.not_found(submission.model)
        caller.check_model(submission.model, model)
        _check_api(submission.endpoint, model, view.models.get(model, ()))
        return model


def lane_of(submission: Submission) -> Lane:
    """The lane it is for; LaneForbidden if its key does not allow it."""
    key, lanes = submission.caller.key, [*Lane]
    best = Lane.INTERACTIVE if key is None else max(key.lane, Lane.INTERACTIVE, key=lanes.index)
    asked = submission.lane or best
    if lanes.index(asked) < lanes.index(best):
        raise LaneForbidden(f"This API key may use the lane '{best}', not '{asked}'.", param="x-ghub-lane")
    return asked


def _check_api(endpoint: str, model: ModelId, nodes: Iterable[NodeRecord]) -> None:
    """Raise ApiNotServed where every node that serves the model says what it can do, and none of them can do this."""
    known = ENDPOINTS.get(endpoint)
    told = [node.engine.get("capabilities") for node in nodes]
    if known is None or not told or not all(told) or any(known.needs in can for can in told if isinstance(can, list)):
        return
    raise ApiNotServed(f"No node that serves the model {model!r} serves {endpoint}.", param="model")
