"""Follows the orders that hubs give this node."""

import asyncio
from typing import assert_never

import structlog

from common.errors import BrokerError, WireError
from common.orders import ControlEntry, Order
from common.reasons import Reason
from common.streams.control import ControlStreams
from common.tasks import backoff_s
from common.types import NodeId
from common.wire import EntryId
from provider.gate.gate import Gate
from provider.jobs.runner import Runner

log = structlog.get_logger()


class Control:
    """Reads the node's control stream from where it stood at the start."""

    def __init__(self, node: NodeId, streams: ControlStreams, gate: Gate, runner: Runner) -> None:
        self._node = node
        self._streams = streams
        self._gate = gate
        self._runner = runner
        self._ordered: set[Reason] = set()
        """What a hub has closed the gate for."""

    async def run(self, after: bytes) -> None:
        """Follow orders until cancelled."""
        waits = backoff_s(0.1, 5)
        is_sure = True
        while True:
            try:
                if not is_sure:
                    after = await self._where_to_go_on(after)
                    is_sure = True
                after, orders = await self._streams.wait(self._node, after)
                waits = backoff_s(0.1, 5)
            except BrokerError as exc:
                pause = next(waits)
                log.warning("broker_unavailable", doing="control", error=str(exc), retry_in_s=round(pause, 2))
                await asyncio.sleep(pause)
                is_sure = False
                continue
            for order in orders:
                if isinstance(order, WireError):
                    log.warning("order_unreadable", error=str(order))
                else:
                    self._follow(order)

    async def _where_to_go_on(self, after: bytes) -> bytes:
        """A broker that was away may have forgotten orders, and its clock be behind: new ones have lower ids then."""
        newest = await self._streams.newest(self._node)
        return min(after, newest, key=EntryId.parse)

    def _follow(self, entry: ControlEntry) -> None:
        log.info("order", op=entry.order.value, request=entry.request)
        match entry.order:
            case Order.CANCEL:
                if entry.request is not None:
                    self._runner.cancel(entry.request)
            case Order.DRAIN:
                self._close_for(Reason.DRAINING)
            case Order.PAUSE:
                self._close_for(Reason.PAUSED)
            case Order.RESUME:
                while self._ordered:
                    self._gate.set(self._ordered.pop(), holds=False)
            case _:
                assert_never(entry.order)

    def _close_for(self, reason: Reason) -> None:
        """What held before, by its owner's word or because the process ends, is not a hub's to take back."""
        if reason not in self._gate.reasons:
            self._ordered.add(reason)
            self._gate.set(reason, holds=True)
