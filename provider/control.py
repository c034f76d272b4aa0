"""Follows the orders that hubs give this node."""

import asyncio
from typing import assert_never

import structlog

from common.errors import BrokerError, WireError
from common.streams.control import ControlStreams
from common.tasks import backoff_s
from common.types import NodeId, Order
from common.wire import ControlEntry
from provider.gate.gate import Gate, Reason
from provider.runner import Runner

log = structlog.get_logger()


class Control:
    """Reads the node's control stream from where it stood at the start."""

    def __init__(self, node: NodeId, streams: ControlStreams, gate: Gate, runner: Runner) -> None:
        self._node = node
        self._streams = streams
        self._gate = gate
        self._runner = runner

    async def run(self, after: bytes) -> None:
        """Follow orders until cancelled."""
        waits = backoff_s(0.1, 5)
        while True:
            try:
                after, orders = await self._streams.wait(self._node, after)
                waits = backoff_s(0.1, 5)
            except BrokerError as exc:
                pause = next(waits)
                log.warning("broker_unavailable", doing="control", error=str(exc), retry_in_s=round(pause, 2))
                await asyncio.sleep(pause)
                continue
            for order in orders:
                if isinstance(order, WireError):
                    log.warning("order_unreadable", error=str(order))
                else:
                    self._follow(order)

    def _follow(self, entry: ControlEntry) -> None:
        log.info("order", op=entry.order.value, request=entry.request)
        match entry.order:
            case Order.CANCEL:
                if entry.request is not None:
                    self._runner.cancel(entry.request)
            case Order.DRAIN:
                self._gate.set(Reason.DRAINING, holds=True)
            case Order.PAUSE:
                self._gate.set(Reason.PAUSED, holds=True)
            case Order.RESUME:
                self._gate.set(Reason.PAUSED, holds=False)
                self._gate.set(Reason.DRAINING, holds=False)
            case _:
                assert_never(entry.order)
