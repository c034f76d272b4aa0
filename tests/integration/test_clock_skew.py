"""Machines whose clocks are a minute off: nothing ends early, nothing late, and no lease is lost for it."""

import email.utils
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.reading import numbered
from tests.integration.test_direct_ticket import HUB, TOKEN, ticket, use, wish
from tests.support.call import Call, get, post
from tests.support.client_keys import TestKey, wait_for_model
from tests.support.grid import Chain, Grid, chat
from tests.support.ports import free_port
from tests.support.processes import until

SKEW_S = 61
WINDOW_S = 20
"""How old a ticket may be: less than the skew."""
QUEUE_TIMEOUT_S = 2.0
HEARTBEAT_S = 0.3
SLACK_S = 2.0
"""How late a timeout may come on a busy machine; far less than the skew."""
SHIFT = """\
import os, time

def shifted(real, unit):
    by = int(os.environ["TEST_CLOCK_SHIFT_S"]) * unit
    return lambda: real() + by

time.time, time.time_ns = shifted(time.time, 1), shifted(time.time_ns, 10**9)
"""
"""Python runs this before all else in the processes that find it."""


def _off_by(folder: Path, seconds: int) -> dict[str, str]:
    """What makes a process believe in another time."""
    (folder / "sitecustomize.py").write_text(SHIFT)
    return {"PYTHONPATH": str(folder), "TEST_CLOCK_SHIFT_S": str(seconds)}


@pytest.fixture(scope="module", params=[(SKEW_S, -SKEW_S), (-SKEW_S, SKEW_S)], ids=["hub-ahead", "provider-ahead"])
def chain(
    request: pytest.FixtureRequest, module_grid: Grid, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chain]:
    """A hub and a provider two minutes apart, the broker's clock in the middle."""
    hub_s, provider_s = request.param
    folder = tmp_path_factory.mktemp("clock")
    engine = module_grid.engine()
    pace = {"GHUB_HEARTBEAT_S": str(HEARTBEAT_S)}
    hub = module_grid.hub(
        GHUB_HUB_DIRECT_WINDOW_S=str(WINDOW_S),
        GHUB_HUB_QUEUE_TIMEOUT_S=str(QUEUE_TIMEOUT_S),
        **HUB,
        **pace,
        **_off_by(folder, hub_s),
    )
    port = str(free_port())
    node = module_grid.provider(
        engine.url,
        f"node-{request.param_index}",
        GHUB_PROVIDER_SLOTS="1",
        GHUB_PROVIDER_HUB_URL=hub,
        GHUB_PROVIDER_TOKEN=TOKEN,
        GHUB_PROVIDER_SERVER__PORT=port,
        GHUB_PROVIDER_TUNNEL__URL=f"http://127.0.0.1:{port}",
        **pace,
        **_off_by(folder, provider_s),
    )
    wait_for_model(module_grid, hub)
    for url, off_s in ((hub, hub_s), (module_grid.provider_urls[node], provider_s)):
        said = email.utils.parsedate_to_datetime(get(url, "/health").headers["date"]).timestamp()
        assert said - time.time() == pytest.approx(off_s, abs=10), "the process has the clock that it was given"
    yield Chain(hub, node, engine)
    module_grid.providers[node].stop()
    module_grid.hubs[hub].stop()


@pytest.fixture
def key(module_grid: Grid, chain: Chain) -> Iterator[TestKey]:
    chain.engine.reset()
    with module_grid.redis() as client:
        yield TestKey(client)
    for call in [*Call.open]:
        call.drop()
    until(lambda: chain.engine.state()["open"] == 0, 5, chain.engine.state)


def _ask(chain: Chain, key: TestKey, deadline_s: float | None = None, **body: Any) -> tuple[int, float, Call]:
    """Ask; status, seconds and the call, read to its end."""
    headers = {**key.headers, **({"x-ghub-deadline-s": str(deadline_s)} if deadline_s else {})}
    began = time.monotonic()
    call = Call(chain.hub, chat(**body), headers=headers)
    status = call.status
    return status, time.monotonic() - began, call


def _held_up(chain: Chain, key: TestKey) -> Call:
    """The one slot is taken."""
    call = Call(chain.hub, chat(double={"hang": True}), headers=key.headers)
    until(lambda: chain.engine.state()["open"] == 1, 5, chain.engine.state)
    return call


def test_a_request_with_a_short_deadline_is_served_in_time(chain: Chain, key: TestKey) -> None:
    status, _, call = _ask(chain, key, deadline_s=5, tokens=5)
    assert status == 200
    assert call.finish().said == numbered(0, 5)


def test_a_deadline_ends_a_request_when_it_should(chain: Chain, key: TestKey) -> None:
    status, took_s, call = _ask(chain, key, deadline_s=1, double={"hang": True})
    assert (status, call.finish().error["code"]) == (504, "deadline_exceeded")
    assert 1 <= took_s < 1 + SLACK_S


def test_who_waits_for_a_slot_is_told_when_the_time_is_up(chain: Chain, key: TestKey) -> None:
    _held_up(chain, key)
    status, took_s, call = _ask(chain, key)
    assert (status, call.finish().error["code"]) == (503, "queue_timeout")
    assert QUEUE_TIMEOUT_S <= took_s < QUEUE_TIMEOUT_S + SLACK_S


def test_who_waited_for_a_slot_is_served_when_it_is_free(chain: Chain, key: TestKey) -> None:
    first = _held_up(chain, key)
    second = Call(chain.hub, chat(tokens=5, stream=True), headers=key.headers)
    first.drop()
    answer = second.finish()
    assert (answer.said, answer.is_ended_once) == (numbered(0, 5), True)


def test_a_ticket_is_dated_by_the_broker_and_good_at_once(chain: Chain, key: TestKey) -> None:
    until(lambda: ticket(chain.hub, key.secret, wish()).status == 200, 5, "the node is free, and the hub knows it")
    given = ticket(chain.hub, key.secret, wish())
    assert given.json["expires_at"] - WINDOW_S == pytest.approx(time.time(), abs=5)
    assert use(given.json).said == numbered(0, 5)


def test_a_key_expires_when_it_should(module_grid: Grid, chain: Chain) -> None:
    with module_grid.redis() as client:
        key = TestKey(client, expires_at=int(time.time() * 1000) + 1500)
    began = time.monotonic()

    def status() -> int:
        return post(chain.hub, chat(tokens=1), headers=key.headers).status

    until(lambda: status() == 200, 1.2, "the key is good")
    until(lambda: status() == 401, 1.5 + SLACK_S, "the key has expired")
    assert time.monotonic() - began >= 1.4


def test_a_node_keeps_its_lease(module_grid: Grid, chain: Chain) -> None:
    """Seen for longer than a lease without a gap, and its heartbeats have the broker's time."""
    look_until = time.monotonic() + 3 * 3 * HEARTBEAT_S
    with module_grid.redis() as client:
        while time.monotonic() < look_until:
            node = module_grid.node(client, chain.node)
            assert node["state"] in ("idle", "busy")
            seconds, _ = client.time()
            assert int(node["heartbeat_at"]) / 1000 == pytest.approx(seconds, abs=SLACK_S)
        hubs = [dict(client.hgetall(name)) for name in client.keys("ghub:hub:*") if client.type(name) == "hash"]
    assert [hub for hub in hubs if abs(int(hub["heartbeat_at"]) / 1000 - seconds) < SLACK_S]


def test_a_hub_that_was_there_before_its_broker_takes_its_time_from_it(mortal_grid: Grid, tmp_path: Path) -> None:
    """Heartbeats are far apart here: the first one in vain, the next one long after the hub is ready."""
    mortal_grid.broker.kill()
    hub = mortal_grid.hub(wait=False, GHUB_HEARTBEAT_S="60", **_off_by(tmp_path, -SKEW_S))
    until(lambda: "broker_unavailable" in mortal_grid.hubs[hub].tail(), 10, mortal_grid.hubs[hub].tail)
    mortal_grid.broker.start()
    engine = mortal_grid.engine()
    mortal_grid.provider(engine.url, GHUB_HEARTBEAT_S=str(HEARTBEAT_S))
    mortal_grid.wait_for_hub(hub)
    mortal_grid.wait_for_model(hub, "tiny:1b")
    answer = post(hub, chat(tokens=5), headers={"x-ghub-deadline-s": "5"})
    assert (answer.status, answer.said) == (200, numbered(0, 5))
