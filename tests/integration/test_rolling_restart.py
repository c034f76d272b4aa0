"""Hubs behind a load balancer are restarted one after the other, under load: every request is answered, whole."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from threading import Event

import pytest

from tests.doubles.reading import numbered
from tests.support.balancers import KINDS, Balancer
from tests.support.call import post
from tests.support.grid import Grid, chat
from tests.support.processes import Process, until

CLIENTS = 6
TOKENS = 12
DELAY_S = 2
"""How long a hub that stops goes on: HAProxy asks every second, Caddy every half; nginx leaves one out for a second."""
HUB = {"GHUB_HUB_SHUTDOWN_DELAY_S": str(DELAY_S)}


@pytest.fixture
def hubs(mortal_grid: Grid) -> list[str]:
    hubs = [mortal_grid.hub(wait=False, **HUB) for _ in range(2)]
    mortal_grid.provider(mortal_grid.engine(slots=CLIENTS).url, GHUB_PROVIDER_SLOTS=str(CLIENTS))
    for hub in hubs:
        mortal_grid.wait_for_hub(hub)
        mortal_grid.wait_for_model(hub, "tiny:1b")
    return hubs


@pytest.fixture(params=KINDS)
def balancer(request: pytest.FixtureRequest, hubs: list[str], tmp_path: Path) -> Iterator[Balancer]:
    started = Balancer(request.param, hubs, tmp_path)
    yield started
    started.stop()


def _has_answered(hub: Process) -> bool:
    return "request_ended" in hub.log.read_text(errors="replace")


def test_restarting_one_hub_after_the_other_costs_no_request(
    balancer: Balancer, hubs: list[str], mortal_grid: Grid
) -> None:
    over, answered = Event(), count()
    n_answered = 0

    def ask(client: int) -> list[str]:
        """Ask until all is over, streamed and whole in turn; what went wrong."""
        nonlocal n_answered
        wrong: list[str] = []
        for n in count(client):
            if over.is_set():
                return wrong
            try:
                answer = post(balancer.url, chat(tokens=TOKENS, stream=n % 2 == 0, double={"delay_ms": n % 3 * 5}))
            except OSError as exc:
                wrong.append(repr(exc))
                continue
            is_whole = answer.status == 200 and answer.said == numbered(0, TOKENS)
            if not is_whole or (n % 2 == 0 and not answer.is_ended_once):
                wrong.append(f"{answer.status} {answer.text[-300:]}")
            n_answered = next(answered)
        raise AssertionError

    def until_answered(more: int) -> None:
        enough = n_answered + more
        until(lambda: n_answered > enough, 20, lambda: f"{n_answered} answers")

    with ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(ask, client) for client in range(CLIENTS)]
        try:
            until_answered(50)
            for hub in hubs:
                mortal_grid.hubs[hub].signal(signal.SIGTERM)
                assert mortal_grid.hubs[hub].wait(DELAY_S + 10) == 0
                until_answered(20)
                mortal_grid.hub(url=hub, **HUB)
                started = mortal_grid.hubs[hub]
                until(partial(_has_answered, started), 10, started.tail)  # the balancer must have seen it
            until_answered(50)
        finally:
            over.set()
        wrong = [one for client in asking for one in client.result(30)]
    print(f"figure: {n_answered} answers of {balancer.kind}, {len(wrong)} wrong")
    assert wrong == []
