"""The clocks of one request: how long it may wait for what.

All begin at its admission, and none but the client's own deadline measures the whole of it.
"""

import asyncio
from collections.abc import Callable

from common.types import NodeId
from common.wire import Job
from hub.errors import BrokerAway, DeadlineExceeded, ModelUnavailable, QueueTimeout
from hub.grid.registry_view import RegistryView
from hub.settings import HubSettings

NODE_GONE_S = 3.0
"""How long a node may be missing from a fresh view of the registry: a new one is not in it yet."""

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

    def node_found(self) -> None:
        """A node has it."""
        self._node_seen_at = asyncio.get_running_loop().time()

    def model_found(self) -> None:
        """It waits anew for a node of its model."""
        self._model_seen_at = asyncio.get_running_loop().time()

    def check_deadline(self) -> None:
        """Raise DeadlineExceeded once the client waits no longer."""
        if self.left_s is not None and self.left_s <= 0:
            raise DeadlineExceeded(f"the answer was not there within the {self._deadline_s:g} s that were given for it")

    def check_broker(self, *, is_lost: bool) -> None:
        """Raise BrokerAway once the broker is away for too long, or has lost the request."""
        if self._view.age_s > self._settings.broker_grace_s:
            raise BrokerAway("the broker is away for too long", retry_after_s=self._settings.retry_after_s)
        if is_lost:
            raise BrokerAway("the broker lost this request", retry_after_s=self._settings.retry_after_s)

    def check_queue(self, job: Job, now_ms: int) -> None:
        """Raise ModelUnavailable or QueueTimeout once a job that no node has has waited for too long."""
        settings, now = self._settings, asyncio.get_running_loop().time()
        if job.model in self._view.models or not self._view.is_fresh:
            self._model_seen_at = now
        elif now - self._model_seen_at > settings.model_wait_s:
            raise ModelUnavailable(
                f"no node serves the model {job.model!r} at present", retry_after_s=settings.retry_after_s
            )
        if now_ms > job.deadline_ms:
            raise QueueTimeout(
                f"no slot came free within {settings.queue_timeout_s:g} s", retry_after_s=settings.retry_after_s
            )

    def is_node_gone(self, node: NodeId) -> bool:
        """Whether the node that has it is gone: at once if it was cut off, else after a while."""
        if node in self._view.revoked:
            return True
        if node in self._view.nodes or not self._view.is_fresh:
            self.node_found()
        return asyncio.get_running_loop().time() - self._node_seen_at > NODE_GONE_S
