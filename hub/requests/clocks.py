"""The clocks of one request: how long it may wait for what.

All begin at its admission, and none but the client's own deadline measures the whole of it.
"""

import asyncio
from collections.abc import Callable

from common.types import NodeId, RequestId
from common.wire import Job
from hub.errors import BrokerAway, DeadlineExceeded, ModelUnavailable, QueueTimeout
from hub.grid.registry_view import RegistryView
from hub.settings import HubSettings

FORGOTTEN_MS = 1000
"""So much later than the claim, at least, a node's entry was written that shows by its silence that the node does not
run a request: a node names what it runs from before its claim on, and two clocks are compared here."""
UNNAMED_MS = 3000
"""A node that runs a request names it by then: a heartbeat and a look later. If not, its entry is read at once."""

ALARM_SPARE_S = 0.005
"""Event loops may ring a little early, s."""


class RequestClocks:
    """Says when a request has waited long enough."""

    def __init__(self, settings: HubSettings, view: RegistryView, deadline_s: float | None) -> None:
        self._settings = settings
        self._view = view
        self._deadline_s = deadline_s
        self._opened_at = asyncio.get_running_loop().time()
        self._model_seen_at = self._opened_at
        self._node_seen_at = self._opened_at
        self._named_at_ms = 0
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def age_s(self) -> float:
        """Seconds since the admission."""
        return asyncio.get_running_loop().time() - self._opened_at

    @property
    def left_s(self) -> float | None:
        """Seconds until the client's deadline; None if it set none."""
        return None if self._deadline_s is None else self._deadline_s - self.age_s

    def set_alarm(self, wake: Callable[[], None]) -> None:
        """Wake someone at the client's deadline, to look at it."""
        if self.left_s is not None:
            self._alarm = asyncio.get_running_loop().call_later(self.left_s + ALARM_SPARE_S, wake)

    def stop(self) -> None:
        """Wake nobody any more."""
        if self._alarm is not None:
            self._alarm.cancel()

    def queue_deadline_ms(self, now_ms: int) -> int:
        """Until when a job that joins its lane now may wait there; Unix ms on the broker's clock."""
        waits_s = self._settings.queue_timeout_s
        if self.left_s is not None:
            waits_s = min(waits_s, max(0.0, self.left_s))
        return now_ms + int(waits_s * 1000)

    def node_found(self, now_ms: int) -> None:
        """A node has it."""
        self._node_seen_at, self._named_at_ms = asyncio.get_running_loop().time(), now_ms

    def model_found(self) -> None:
        """It waits anew for a node of its model."""
        self._model_seen_at = asyncio.get_running_loop().time()

    def check_deadline(self) -> None:
        """Raise DeadlineExceeded once the client waits no longer."""
        if self.left_s is not None and self.left_s <= 0:
            raise DeadlineExceeded(f"the answer was not there within the {self._deadline_s:g} s that were given for it")

    def check_broker(self) -> None:
        """Raise BrokerAway once the broker is away for too long; what is younger may be waiting for the first look."""
        if min(self._view.age_s, self.age_s) > self._settings.broker_grace_s:
            raise BrokerAway("the broker is away for too long", retry_after_s=self._settings.retry_after_s)

    def check_queue(self, job: Job, now_ms: int, *, has_begun: bool) -> None:
        """Raise ModelUnavailable or QueueTimeout once a job that no node has has waited for too long.

        An answer that has begun waits for its model as long as for a broker: its node may be starting anew.
        """
        settings, now = self._settings, asyncio.get_running_loop().time()
        waits_s = max(settings.model_wait_s, settings.broker_grace_s) if has_begun else settings.model_wait_s
        if job.model in self._view.models or not self._view.is_settled:
            self._model_seen_at = now
        elif now - self._model_seen_at > waits_s:
            raise ModelUnavailable(
                f"no node serves the model {job.model!r} at present", retry_after_s=settings.retry_after_s
            )
        if now_ms > job.deadline_ms:
            raise QueueTimeout(
                f"no slot came free within {settings.queue_timeout_s:g} s", retry_after_s=settings.retry_after_s
            )

    def is_node_gone(self, node: NodeId) -> bool:
        """Whether the node that has it is gone: it was there when it claimed it, and is missing in a newer picture."""
        view = self._view
        if node in view.revoked:
            return True
        return node not in view.nodes and view.is_settled and view.taken_at > self._node_seen_at

    def is_forgotten(self, node: NodeId, request: RequestId, now_ms: int) -> bool:
        """Whether the node that has it lives, and does not name it among those that it runs.

        So it is where the node was started anew, or where it dropped the job because the reply was gone.
        """
        record = self._view.nodes.get(node)
        if record is None or request in record.requests:
            self._named_at_ms = now_ms
            return False
        if now_ms > self._named_at_ms + UNNAMED_MS:
            self._view.doubt(node)
        return self._view.heard_at_ms(node) > self._named_at_ms + FORGOTTEN_MS
