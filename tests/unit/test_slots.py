"""Slots: jobs, direct calls and whoever else uses the engine share them."""

import pytest

from provider.slots import Slots


def slots(total: int = 2) -> Slots:
    return Slots(lambda: total)


def test_each_one_taken_is_one_less_until_it_is_given_back() -> None:
    shared = slots()
    shared.take()
    assert (shared.total, shared.taken, shared.free) == (2, 1, 1)
    shared.take()
    assert shared.free == 0
    shared.give_back()
    assert (shared.taken, shared.free) == (1, 1)


def test_requests_that_came_past_this_provider_count_where_they_are_to() -> None:
    shared = slots()
    shared.others = 1
    assert (shared.taken, shared.free) == (0, 1)


def test_an_engine_that_has_fewer_than_before_has_none_free_and_not_less() -> None:
    total = 4
    shared = Slots(lambda: total)
    for _ in range(3):
        shared.take()
    total = 1
    shared.others = 1
    assert (shared.total, shared.taken, shared.free) == (1, 3, 0)


def test_whoever_waits_hears_of_each_change() -> None:
    shared = slots()
    for change in (shared.take, shared.give_back):
        change()
        assert shared.changed.is_set()
        shared.changed.clear()


def test_work_is_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr("provider.slots.time.monotonic", lambda: now_s)
    shared = slots()
    assert not shared.worked_within(10)
    shared.take()
    now_s += 100
    assert shared.worked_within(0), "while it runs"
    shared.give_back()
    now_s += 1
    assert shared.worked_within(1.5)
    assert not shared.worked_within(1)
