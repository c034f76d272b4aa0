"""How often a request is tried, and given back, before its client hears of it."""

from hub.requests.tries import MOST_UNTRIED, Tries
from hub.settings import HubSettings

SETTINGS = HubSettings(max_releases=3)


def test_as_many_nodes_as_may_give_back_what_they_ran() -> None:
    tries = Tries(SETTINGS)
    for _ in range(2):
        tries.released("draining", was_running=True)
    assert not tries.is_worn_out
    tries.released("draining", was_running=True)
    assert tries.is_worn_out


def test_nodes_that_close_in_the_moment_it_comes_do_not_wear_it_out() -> None:
    tries = Tries(SETTINGS)
    for _ in range(MOST_UNTRIED - 1):
        tries.released("draining", was_running=False)
    assert not tries.is_worn_out


def test_one_node_that_gives_it_back_without_end_does() -> None:
    tries = Tries(SETTINGS)
    for _ in range(MOST_UNTRIED):
        tries.released("x", was_running=False)
    assert tries.is_worn_out
