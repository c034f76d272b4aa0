"""Whom a process believes that asks several sentinels, which may have slept, or not have heard yet."""

import asyncio
from copy import copy
from typing import Any

import pytest
from redis import exceptions as rx

from common.broker.sentinel import Sentinels
from common.broker.url import Address

OLD, NEW = Address("10.0.0.1", 6379), Address("10.0.0.2", 6379)


class Sentinel:
    """A client of one that says this, after a while; for ever without `epoch`."""

    def __init__(
        self,
        master: Address,
        epoch: int | None = 1,
        *,
        flags: str = "master",
        named: Address | None = None,
        late_s: float = 0,
    ) -> None:
        self._named, self._late_s = named or master, late_s
        self._epoch = epoch
        facts = {"ip": master.host, "port": master.port, "flags": flags, "config-epoch": epoch}
        self._told = [str(part).encode() for pair in facts.items() for part in pair]

    def pipeline(self, **_: object) -> "Sentinel":
        return self

    def execute_command(self, *_: str) -> None:
        """It is known what is asked."""

    async def execute(self) -> list[Any]:
        await (asyncio.sleep(self._late_s) if self._epoch is not None else asyncio.Event().wait())
        return [[self._named.host.encode(), str(self._named.port).encode()], self._told]

    async def aclose(self) -> None:
        """Nothing to close."""


SLEPT = Sentinel(OLD)
"""It knows nothing of what has happened."""
HANGS = Sentinel(OLD, None)
SEES_IT_DOWN = Sentinel(OLD, flags="s_down,master")
PROMOTES = Sentinel(OLD, 2, named=NEW, flags="s_down,o_down,master")
HAS_HEARD = Sentinel(NEW, 2)


async def found(*sentinels: Sentinel) -> Address:
    asked = Sentinels("main", [copy(one) for one in sentinels])
    try:
        async with asyncio.timeout(5):
            return await asked.find()
    finally:
        await asked.aclose()


@pytest.mark.parametrize(
    ("sentinels", "master"),
    [
        ([SLEPT, SLEPT, SLEPT], OLD),
        ([HAS_HEARD, HAS_HEARD, SLEPT], NEW),
        ([SLEPT, HAS_HEARD, HAS_HEARD], NEW),
        ([SLEPT, PROMOTES, SEES_IT_DOWN], NEW),
        ([HANGS, HAS_HEARD, HAS_HEARD], NEW),
        ([HANGS, PROMOTES, SEES_IT_DOWN], NEW),
        ([HANGS, HAS_HEARD, SEES_IT_DOWN], NEW),
    ],
)
async def test_the_newest_word_of_a_majority_is_believed(sentinels: list[Sentinel], master: Address) -> None:
    assert await found(*sentinels) == master


async def test_one_that_slept_is_not_believed_against_one_that_sees_it_down_before_the_third_is_heard() -> None:
    assert await found(SLEPT, SEES_IT_DOWN, Sentinel(NEW, 2, late_s=0.05)) == NEW


async def test_where_nobody_else_says_anything_one_that_sees_it_there_is_believed() -> None:
    """The other one may be cut off from it."""
    assert await found(Sentinel(OLD), SEES_IT_DOWN) == OLD


async def test_while_all_see_it_down_there_is_none() -> None:
    with pytest.raises(rx.ConnectionError, match="is down"):
        await found(SEES_IT_DOWN, SEES_IT_DOWN, HANGS)
