"""Many hubs and many machines are one service: work flows to where slots are free, and every answer to its client."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from tests.doubles.process import EngineProcess
from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import COMPLETIONS, Answer, Call, get, post, post_all
from tests.support.grid import Grid, chat
from tests.support.processes import until

SLOTS = {"small": 2, "middle": 4, "large": 6}
MODEL = "tiny:1b"
OWN = {name: f"only-{name}:1b" for name in SLOTS}
"""A model that each node has for itself, beside the one they share."""
MAX_CONNECTIONS = 10


class Service(NamedTuple):
    """Two hubs in front of three nodes."""

    hubs: tuple[str, str]
    engines: dict[str, EngineProcess]


@pytest.fixture(scope="module")
def _service(module_grid: Grid) -> Service:
    engines = {name: module_grid.engine(MODEL, OWN[name], slots=100) for name in SLOTS}
    # no comment goes before the answer: then every head tells the node
    env = {"GHUB_HUB_FIRST_COMMENT_S": "30"}
    hubs = tuple(module_grid.hub(wait=False, GHUB_HUB_NAME=f"front-{one}", **env) for one in "ab")
    for name, engine in engines.items():
        module_grid.provider(engine.url, name, wait=False, GHUB_PROVIDER_SLOTS=str(SLOTS[name]))
    for name in SLOTS:
        module_grid.wait_for_node(name)
    for hub in hubs:
        module_grid.wait_for_hub(hub)
        for model in OWN.values():
            module_grid.wait_for_model(hub, model)
    return Service((hubs[0], hubs[1]), engines)


@pytest.fixture
def service(_service: Service, module_grid: Grid) -> Iterator[Service]:
    """Two hubs in front of three nodes, with nothing to do before and after each test."""
    for engine in _service.engines.values():
        engine.reset()
    yield _service
    for call in [*Call.open]:
        call.drop()
    with module_grid.redis() as client:
        leftovers.until_at_rest(client, 5)
    for hub in _service.hubs:
        assert get(hub, "/health").json["open_requests"] == 0


def _nth_body(n: int) -> dict[str, Any]:
    """A completion whose answer no other one of these has: it goes on after its own number of words."""
    said = numbered(0, n)
    double = {"delay_ms": 3, "per_write": 1 + n % 3, "split_bytes": 40 if n % 5 == 0 else None}
    return {"model": MODEL, "prompt": said, "max_tokens": 10 + n % 7, "stream": n % 3 != 0, "double": double}


def _is_nth_answer(n: int, answer: Answer) -> bool:
    whole = answer.status == 200 and answer.said == numbered(n, n + 10 + n % 7)
    return whole and (n % 3 == 0 or answer.is_ended_once)


def _connections(grid: Grid) -> Counter[str]:
    """How many connections each process has to the broker, by the name it gives itself."""
    with grid.redis() as client:
        names = [str(one["name"]) for one in client.client_list()]
    return Counter(name for name in names if name.startswith("ghub-"))


def test_three_hundred_requests_at_once_are_shared_and_each_gets_its_own_answer(
    service: Service, module_grid: Grid
) -> None:
    count = 300
    most: Counter[str] = Counter()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.05):
            for name, connections in _connections(module_grid).items():
                most[name] = max(most[name], connections)

    with ThreadPoolExecutor(count + 1) as pool:
        watching = pool.submit(watch)
        calls = [pool.submit(post, service.hubs[n % 2], _nth_body(n), path=COMPLETIONS) for n in range(count)]
        try:
            answers = [call.result() for call in calls]
        finally:
            is_over.set()
        watching.result()
    wrong = {n: answer.text[-300:] for n, answer in enumerate(answers) if not _is_nth_answer(n, answer)}
    assert not wrong
    served = Counter(answer.headers["x-ghub-node"] for answer in answers)
    print(f"served {dict(served)}, connections at most {dict(most)}")
    assert set(served) == set(SLOTS), "every node has its share"
    assert served["large"] > served["small"], "who has more slots does more"
    assert {answer.headers["x-ghub-attempt"] for answer in answers} == {"1"}
    assert len({answer.headers["x-request-id"] for answer in answers}) == count
    for name, engine in service.engines.items():
        state = engine.state()
        assert state["started"] == state["finished"] == served[name]
        assert state["max_open"] <= SLOTS[name]
    told = {(answer.headers["x-ghub-node"], answer.fingerprint) for answer in answers}
    assert len(told) == len(SLOTS), "the node that is named is the one that answered"
    assert set(most) == {"ghub-hub-front-a", "ghub-hub-front-b", *(f"ghub-provider-{name}" for name in SLOTS)}
    assert max(most.values()) <= MAX_CONNECTIONS, most


def test_a_model_is_served_by_whoever_has_it_through_either_hub(service: Service) -> None:
    for hub in service.hubs:
        assert {one["id"] for one in get(hub, "/v1/models").json["data"]} == {MODEL, *OWN.values()}
        for name, model in OWN.items():
            for stream in (False, True):
                answer = post(hub, chat(model=model, tokens=5, stream=stream))
                assert answer.said == numbered(0, 5)
                assert answer.headers["x-ghub-node"] == name


def test_an_answer_comes_when_it_is_there_and_not_when_somebody_happens_to_look(service: Service) -> None:
    began = time.monotonic()
    for n in range(20):
        assert post(service.hubs[n % 2], chat(tokens=5)).said == numbered(0, 5)
    took_s = time.monotonic() - began
    print(f"20 whole answers one after the other: {took_s * 1000:.0f} ms")
    assert took_s < 4, "each waited for the look at all replies that comes once a second"


def test_a_node_that_is_full_leaves_the_work_to_those_that_are_not(service: Service) -> None:
    held = [Call(service.hubs[0], chat(model=OWN["large"], double={"hang": True})) for _ in range(SLOTS["large"])]
    until(lambda: service.engines["large"].state()["open"] == len(held), 5, service.engines["large"].state)
    answers = post_all([chat(tokens=5)] * 30, service.hubs)
    assert {answer.said for answer in answers} == {numbered(0, 5)}
    assert {answer.headers["x-ghub-node"] for answer in answers} == {"small", "middle"}
    assert service.engines["large"].state()["started"] == len(held)


def test_a_node_that_joins_takes_what_waits_already(service: Service, module_grid: Grid) -> None:
    hub = service.hubs[1]
    held = [
        Call(hub, chat(model=OWN[name], double={"hang": True})) for name, slots in SLOTS.items() for _ in range(slots)
    ]
    until(lambda: sum(engine.state()["open"] for engine in service.engines.values()) == len(held), 5, "all are busy")
    waiting = [Call(hub, chat(tokens=5, stream=stream)) for stream in (True, False) * 5]
    with module_grid.redis() as client:
        until(lambda: leftovers.waiting(client) == len(waiting), 5, lambda: leftovers.told(client))
    engine = module_grid.engine(MODEL)
    joined = module_grid.provider(engine.url, "joined")
    try:
        assert {call.finish().said for call in waiting} == {numbered(0, 5)}
        assert engine.state()["started"] == len(waiting)
    finally:
        assert module_grid.providers[joined].stop() == 0


def test_one_clients_burst_at_one_hub_holds_nobody_up_at_the_other(service: Service) -> None:
    """The jobs of both hubs lie in one lane, first come, first served: the wait is the queue's, never a hub's."""
    with ThreadPoolExecutor(100) as pool:
        burst = [pool.submit(post, service.hubs[0], _nth_body(n), path=COMPLETIONS) for n in range(100)]
        last = post(service.hubs[1], chat(tokens=5))
        assert last.said == numbered(0, 5)
        assert all(_is_nth_answer(n, call.result()) for n, call in enumerate(burst))
