"""The gate: any reason closes it, all must go before it opens, and each change can be seen."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from common.reasons import Reason
from provider.gate.gate import Gate


class TestReasons:
    def test_a_new_gate_is_open(self) -> None:
        gate = Gate()
        assert gate.is_open
        assert gate.reasons == ()

    @given(st.lists(st.tuples(st.sampled_from(Reason), st.booleans())))
    def test_it_is_open_when_and_only_when_no_reason_holds(self, changes: list[tuple[Reason, bool]]) -> None:
        gate = Gate()
        holding: set[Reason] = set()
        for reason, holds in changes:
            gate.set(reason, holds=holds)
            (holding.add if holds else holding.discard)(reason)
            assert gate.reasons == tuple(sorted(holding))
            assert gate.is_open == (not holding)

    def test_reasons_show_by_their_names(self) -> None:
        gate = Gate()
        for reason in (Reason.PAUSED, Reason.ENGINE_DOWN, Reason.DRAINING):
            gate.set(reason, holds=True)
        assert gate.reasons == ("draining", "engine-down", "paused")

    def test_only_a_change_is_told(self) -> None:
        gate = Gate()
        gate.set(Reason.PAUSED, holds=False)
        assert not gate.changed.is_set()
        gate.set(Reason.PAUSED, holds=True)
        assert gate.changed.is_set()
        gate.changed.clear()
        gate.set(Reason.PAUSED, holds=True)
        assert not gate.changed.is_set()
        gate.set(Reason.PAUSED, holds=False)
        assert gate.changed.is_set()


class TestWaiting:
    async def test_an_open_gate_lets_pass_at_once(self) -> None:
        await asyncio.wait_for(Gate().wait_open(), 1)

    async def test_who_waits_passes_when_the_last_reason_goes(self) -> None:
        gate = Gate()
        gate.set(Reason.PAUSED, holds=True)
        gate.set(Reason.ENGINE_DOWN, holds=True)
        waiters = [asyncio.create_task(gate.wait_open()) for _ in range(3)]
        gate.set(Reason.PAUSED, holds=False)
        await _rounds(5)
        assert not any(waiter.done() for waiter in waiters)
        gate.set(Reason.ENGINE_DOWN, holds=False)
        await asyncio.wait_for(asyncio.gather(*waiters), 1)

    async def test_a_gate_that_closed_again_holds_the_next(self) -> None:
        gate = Gate()
        gate.set(Reason.PAUSED, holds=True)
        gate.set(Reason.PAUSED, holds=False)
        gate.set(Reason.DRAINING, holds=True)
        waiter = asyncio.create_task(gate.wait_open())
        await _rounds(5)
        assert not waiter.done()
        waiter.cancel()


async def _rounds(count: int) -> None:
    """Let every task that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)
