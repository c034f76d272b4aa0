"""What keys used: every request counted once, even where an answer of the broker was lost."""

from collections.abc import Mapping

import pytest

from common.broker.broker import Broker
from common.errors import BrokerUnavailable
from common.records.usage import DayOfKey, ModelUsage, UsageBooks, day_of, days_back
from common.streams.requests import Requests
from common.types import HubId, KeyId, ModelId
from common.wire import Usage
from hub.requests.ledger import Ledger
from tests.contract.story import HUB, KEYS, MODEL, OTHER_MODEL, TTLS, hash_of, raw

KEY = KeyId("0123456789abcdef")
DAY, NEXT_DAY = "2026-01-31", "2026-02-01"


class Forgetful(UsageBooks):
    """Books whose answers are lost so many times: what was asked is done all the same."""

    def __init__(self, broker: Broker, losses: int) -> None:
        super().__init__(broker)
        self.losses = losses

    async def add(self, hub: HubId, number: int, used: Mapping[DayOfKey, Mapping[ModelId, ModelUsage]]) -> None:
        await super().add(hub, number, used)
        if self.losses:
            self.losses -= 1
            raise BrokerUnavailable("the answer was lost")


def a_ledger(broker: Broker, books: UsageBooks, hub: HubId = HUB) -> Ledger:
    return Ledger(hub, Requests(broker, TTLS, HUB), books)


async def test_requests_are_counted_by_model_and_day(broker: Broker) -> None:
    books = UsageBooks(broker)
    ledger = a_ledger(broker, books)
    ledger.count(KEY, DAY, MODEL, Usage(10, 5))
    ledger.count(KEY, DAY, MODEL, Usage(None, 7, is_estimate=True))
    ledger.count(KEY, DAY, OTHER_MODEL, None)
    ledger.count(KEY, NEXT_DAY, MODEL, Usage(1, 1))
    await ledger.flush()
    assert await books.read(KEY, [DAY, NEXT_DAY, "2026-02-02"]) == {
        DAY: {MODEL: ModelUsage(2, 10, 12, 1), OTHER_MODEL: ModelUsage(1, 0, 0, 0)},
        NEXT_DAY: {MODEL: ModelUsage(1, 1, 1, 0)},
        "2026-02-02": {},
    }


async def test_its_fields_can_be_read_by_people_and_stay_for_ever(broker: Broker) -> None:
    ledger = a_ledger(broker, UsageBooks(broker))
    ledger.count(KEY, DAY, MODEL, Usage(10, 5))
    await ledger.flush()
    name = KEYS.usage(KEY, DAY)
    found = await hash_of(broker, name)
    assert {field: found[field] for field in found if not field.startswith("~")} == {
        f"{MODEL}:requests": "1",
        f"{MODEL}:prompt_tokens": "10",
        f"{MODEL}:completion_tokens": "5",
    }
    assert await raw(broker).pttl(name) == -1


@pytest.mark.parametrize("losses", [1, 3])
async def test_an_answer_that_is_lost_counts_nothing_twice(broker: Broker, losses: int) -> None:
    books = Forgetful(broker, losses)
    ledger = a_ledger(broker, books)
    ledger.count(KEY, DAY, MODEL, Usage(10, 5))
    for _ in range(losses):
        with pytest.raises(BrokerUnavailable):
            await ledger.flush()
        ledger.count(KEY, DAY, MODEL, Usage(1, 1))
    await ledger.flush()
    assert (await books.read(KEY, [DAY]))[DAY] == {MODEL: ModelUsage(1 + losses, 10 + losses, 5 + losses, 0)}


async def test_hubs_count_into_the_same_day(broker: Broker) -> None:
    books = UsageBooks(broker)
    for hub in ("hub-a", "hub-b"):
        ledger = a_ledger(broker, books, HubId(hub))
        for _ in range(2):
            ledger.count(KEY, DAY, MODEL, Usage(1, 1))
            await ledger.flush()
    assert (await books.read(KEY, [DAY]))[DAY][MODEL].requests == 4


async def test_models_with_colons_and_tildes_are_told_apart(broker: Broker) -> None:
    books = UsageBooks(broker)
    ledger = a_ledger(broker, books)
    models = [ModelId(name) for name in ("a:b", "a:requests", "~a", "模型")]
    for model in models:
        ledger.count(KEY, DAY, model, Usage(1, 1))
    await ledger.flush()
    assert set((await books.read(KEY, [DAY]))[DAY]) == {*models}


def test_days_are_those_of_utc_newest_first() -> None:
    now_ms = 1_769_990_400_000
    assert day_of(now_ms) == "2026-02-02"
    assert day_of(now_ms - 1) == "2026-02-01"
    assert days_back(now_ms, 3) == ["2026-02-02", "2026-02-01", "2026-01-31"]
