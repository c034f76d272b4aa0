"""A follow-up goes to the node that knows the conversation, a request to one with its model loaded, if that is free."""

import time
from typing import Any

import pytest

from tests.doubles.models import Model
from tests.support.call import Call, post
from tests.support.client_keys import TestKey
from tests.support.figures import figures, total
from tests.support.grid import Grid, chat
from tests.support.pair import QUICK
from tests.support.processes import until
from tests.support.resuming import RESUMABLE, Asked, resume

LONG = "The quick brown fox jumps over the lazy dog. " * 80
LATE_MS, LATE_S = "5000", 4.0
"""A wait so long that it would show."""


class Talk:
    """A conversation that grows with each turn."""

    def __init__(self, about: str, model: str = "tiny:1b") -> None:
        self._model = model
        self._messages = [{"role": "system", "content": f"{about}: {LONG}"}]

    def body(self, said: str = "go on", **fields: Any) -> dict[str, Any]:
        """The next turn."""
        self._messages.append({"role": "user", "content": said})
        return {**chat(model=self._model, tokens=2, **fields), "messages": [*self._messages]}

    def turn(self, hub: str, **options: Any) -> str:
        """Take the next turn; which node answered."""
        answer = post(hub, self.body(), **options)
        assert answer.status == 200, answer.text
        self._messages.append({"role": "assistant", "content": answer.said})
        return answer.headers["x-ghub-node"]


def came_of(hub: str, kind: str, outcome: str) -> float:
    """How many jobs so."""
    return total(figures(hub), "ghub_affinity_total", kind=kind, outcome=outcome)


def sees(hub: str, model: str, nodes: int) -> bool:
    """Whether a hub's picture has so many nodes with a model."""
    return total(figures(hub), "ghub_model_nodes", model=model) == nodes


def start(grid: Grid, nodes: int = 3, model: str = "tiny:1b", slots: int = 4, hubs: int = 1, **env: str) -> list[str]:
    """Hubs over some nodes, each of which every hub sees."""
    urls = [grid.hub(wait=False, **QUICK, **env) for _ in range(hubs)]
    mine = {**QUICK, "GHUB_PROVIDER_SLOTS": str(slots)}
    names = [grid.provider(grid.engine(model, slots=slots).url, wait=False, **mine) for _ in range(nodes)]
    for name in names:
        grid.wait_for_node(name)
    for url in urls:
        grid.wait_for_hub(url)
        until(lambda url=url: sees(url, model, nodes), 10, f"{nodes} nodes at {url}")
    return urls


@pytest.mark.timeout(90)
def test_a_conversation_stays_with_its_node_whichever_hub_it_comes_to(grid: Grid) -> None:
    one, other = start(grid, hubs=2)
    talks = [Talk(about) for about in ("cats", "dogs", "birds", "fish")]
    nodes = [talk.turn(one) for talk in talks]
    assert len({*nodes}) > 1, "the first turns go to whoever has waited longest"
    for hub in (one, one, one):
        assert [talk.turn(hub) for talk in talks] == nodes
    assert came_of(one, "prefix", "hit") == 3 * len(talks)
    until(lambda: _served(grid) > 0, 5, "the other hub can know")
    assert [talk.turn(other) for talk in talks] == nodes
    assert came_of(other, "prefix", "hit") == len(talks)
    with grid.redis() as client:
        assert {len(client.xrange(f"ghub:{{jobs}}:near:{node}")) for node in nodes} <= {0, 1}
        assert client.get("ghub:{served}:none") is None


def _served(grid: Grid) -> int:
    with grid.redis() as client:
        return sum(1 for _ in client.scan_iter("ghub:{served}:*"))


@pytest.mark.timeout(60)
def test_another_key_is_no_part_of_the_conversation(grid: Grid) -> None:
    (hub,) = start(grid, nodes=2, GHUB_HUB_AUTH="required", GHUB_HUB_ADMIN_LOOPBACK="true")
    with grid.redis() as client:
        mine, theirs = TestKey(client), TestKey(client)
        until(lambda: post(hub, chat(), headers=theirs.headers).status == 200, 10, "keys are known")
        Talk("cats").turn(hub, headers=mine.headers)
        Talk("cats").turn(hub, headers=theirs.headers)
        assert came_of(hub, "prefix", "hit") == 0
        Talk("cats").turn(hub, headers=mine.headers)
        assert came_of(hub, "prefix", "hit") == 1


@pytest.mark.timeout(60)
def test_nobody_waits_for_a_node_that_is_busy_or_lost(grid: Grid) -> None:
    (hub,) = start(grid, nodes=2, slots=1, GHUB_HUB_AFFINITY_WAIT_MS=LATE_MS)
    talk = Talk("cats")
    first = talk.turn(hub)
    holder = Asked(hub, {**talk.body(double={"hang": True}), "stream": True}, headers=RESUMABLE)
    assert holder.node == first, "a slot that came free a moment ago is free"
    began = time.monotonic()
    assert talk.turn(hub) != first, "its only slot is taken"
    assert time.monotonic() - began < LATE_S
    assert came_of(hub, "prefix", "missed") == 1
    holder.drop()


@pytest.mark.timeout(60)
def test_a_node_that_died_a_moment_ago_is_waited_for_no_longer_than_set(grid: Grid) -> None:
    (hub,) = start(grid, nodes=2, GHUB_HUB_AFFINITY_WAIT_MS="300")
    talk = Talk("cats")
    first = talk.turn(hub)
    grid.providers[first].kill()
    began = time.monotonic()
    assert talk.turn(hub) != first
    assert 0.2 < time.monotonic() - began < LATE_S
    assert came_of(hub, "prefix", "moved") == 1


@pytest.mark.timeout(90)
def test_a_hub_and_the_node_it_waits_for_die_and_the_request_is_answered_elsewhere(grid: Grid) -> None:
    hub, other = start(grid, nodes=2, hubs=2, GHUB_HUB_AFFINITY_WAIT_MS="5000")
    talk = Talk("cats")
    first = talk.turn(hub)
    grid.providers[first].kill()
    call = Call(hub, talk.body(stream=True), headers=RESUMABLE)
    with grid.redis() as client:
        near = f"ghub:{{jobs}}:near:{first}"
        until(lambda: client.xlen(near) == 1, 5, "its job is set aside")
        ((_, job),) = client.xrange(near)
        grid.hubs[hub].kill()
        answer = resume(other, job["id"], within_s=40)
        assert (answer.status, answer.is_ended_once) == (200, True)
        assert client.hget(f"ghub:request:{job['id']}", "node") != first
        assert client.xlen(near) == 0
    call.close()


@pytest.mark.timeout(60)
def test_a_request_goes_to_the_node_that_has_its_model_loaded(grid: Grid) -> None:
    hub = grid.hub(wait=False, **QUICK)
    engines = [grid.engine(Model("m:1b", is_loaded=is_warm), kind="ollama") for is_warm in (False, True, False)]
    cold, warm, _ = [grid.provider(engine.url, wait=False, **QUICK) for engine in engines]
    for name in (cold, warm):
        grid.wait_for_node(name)
    grid.wait_for_hub(hub)
    until(lambda: sees(hub, "m:1b", 3), 10, "three nodes")
    nodes = {post(hub, chat(model="m:1b", tokens=2)).headers["x-ghub-node"] for _ in range(5)}
    assert nodes == {warm}
    assert came_of(hub, "warm", "hit") == 5


@pytest.mark.timeout(60)
def test_turned_off_nothing_is_set_aside(grid: Grid) -> None:
    (hub,) = start(grid, nodes=2, GHUB_HUB_AFFINITY_WAIT_MS="0")
    talk = Talk("cats")
    assert len({talk.turn(hub) for _ in range(6)}) == 2, "nodes that wait take turns"
    assert not [name for name, _ in figures(hub) if name == "ghub_affinity_total"]
    assert _served(grid) == 0
