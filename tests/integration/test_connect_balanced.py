"""A front that knows a load balancer alone, and none of the hubs behind it."""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.doubles.reading import numbered
from tests.support.balancers import Balancer
from tests.support.call import get, post
from tests.support.fronts import FrontProcess
from tests.support.grid import Grid, chat
from tests.support.processes import until

QUICK = {"GHUB_HEARTBEAT_S": "0.3"}
CLIENTS = 8
TOKENS = 200


def test_streams_outlive_a_hub_that_is_killed_behind_the_balancer(mortal_grid: Grid, tmp_path: Path) -> None:
    engine = mortal_grid.engine(kind="llamacpp", slots=CLIENTS)
    hubs = [mortal_grid.hub(wait=False, **QUICK) for _ in range(2)]
    mortal_grid.provider(engine.url, GHUB_PROVIDER_SLOTS=str(CLIENTS), **QUICK)
    for hub in hubs:
        mortal_grid.wait_for_hub(hub)
        mortal_grid.wait_for_model(hub, "tiny:1b")
    balancer = Balancer("nginx", hubs, tmp_path)
    front = FrontProcess([balancer.url], tmp_path, GHUB_CONNECT_CHECK_INTERVAL_S="0.3")
    try:
        until(lambda: front.ready_hubs == {balancer.url}, 10, front.process.tail)
        body = chat(tokens=TOKENS, stream=True, double={"delay_ms": 10})
        with ThreadPoolExecutor(CLIENTS) as pool:
            asked = [pool.submit(post, front.url, body) for _ in range(CLIENTS)]
            until(lambda: engine.state()["open"] == CLIENTS, 5, engine.state)
            assert get(hubs[1], "/health").json["open_requests"] > 0
            mortal_grid.hubs[hubs[1]].signal(signal.SIGKILL)
            answers = [one.result(30) for one in asked]
    finally:
        front.process.kill()
        balancer.stop()
    told = {(answer.status, tuple(answer.said), answer.is_ended_once) for answer in answers}
    assert told == {(200, tuple(numbered(0, TOKENS)), True)}, [answer.text[-300:] for answer in answers]
