"""What a thousand requests leave behind: nothing in the broker, nothing on the machines, nothing in the processes."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import redis

from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import Answer, Call, get, post
from tests.support.grid import Chain, Grid, chat
from tests.support.processes import until

ATTEMPTS = 2
SETTINGS = {
    "GHUB_HUB_MAX_ATTEMPTS": str(ATTEMPTS),
    "GHUB_HUB_REPLY_LINGER_S": "1",
    "GHUB_HUB_REPLY_TTL_S": "5",
    "GHUB_HUB_REQUEST_TTL_S": "10",
}
CLIENTS = 40
MIB = 2**20


@pytest.fixture(scope="module")
def chain(module_grid: Grid) -> Chain:
    """A chain whose keys end soon."""
    return module_grid.chain(slots=100, provider_slots=8, **SETTINGS)


@pytest.fixture
def hub_process(chain: Chain, module_grid: Grid) -> psutil.Process:
    return psutil.Process(module_grid.hubs[chain.hub].pid)


@pytest.fixture
def provider_process(chain: Chain, module_grid: Grid) -> psutil.Process:
    return psutil.Process(module_grid.providers[chain.node].pid)


def _one(hub: str, n: int) -> str:
    """The n-th of a mix of requests: what became of it."""
    match n % 10:
        case 0:
            answer = post(hub, chat(double={"status": 400}))
        case 1:
            answer = post(hub, chat(stream=True, double={"status": 500}))
        case 2:
            answer = post(hub, chat(stream=True, double={"cut_after": 5}))
        case 3:
            return _leave(hub)
        case 4:
            answer = post(hub, {"model": "tiny:1b"})
        case 5:
            answer = post(hub, chat("word " * 20_000, tokens=5))
        case kind:
            answer = post(hub, chat(tokens=20, stream=kind % 2 == 0))
    return _told(answer)


def _leave(hub: str) -> str:
    with Call(hub, chat(tokens=1000, stream=True, double={"delay_ms": 20})) as call:
        call.wait_for("t1 ")
        call.drop()
    return "left"


def _told(answer: Answer) -> str:
    if '"error"' in answer.text:
        return str(answer.error["code"])
    return "whole" if answer.said in {numbered(0, 20), numbered(0, 5)} else answer.text


def _send(hub: str, count: int) -> Counter[str]:
    """Send this many of the mix, and say what became of them."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        return Counter(pool.map(lambda n: _one(hub, n), range(count)))


def _expected(count: int) -> dict[str, int]:
    codes = ("invalid_request", "engine_error", "engine_disconnected", "left", "missing_required_parameter")
    return dict.fromkeys(codes, count // 10) | {"whole": count // 2}


@pytest.mark.slow
def test_a_thousand_requests_leave_no_job_no_claim_and_no_key_that_stays(chain: Chain, module_grid: Grid) -> None:
    with module_grid.redis() as client:
        post(chain.hub, chat())
        used_bytes = int(client.info("memory")["used_memory"])
        sent = _send(chain.hub, 1000)
        assert sent == _expected(1000)
        assert leftovers.immortal(client) == []
        leftovers.until_at_rest(client, 5)
        took_s = until(lambda: leftovers.replies(client) == [], 8, lambda: leftovers.replies(client)[:5])
        print(f"replies gone after {took_s:.1f} s")
        assert leftovers.immortal(client) == []
        until(lambda: _requests(client) == [], 13, lambda: client.hgetall(_requests(client)[0]))
        until(lambda: client.hget(f"ghub:node:{chain.node}", "requests") == "[]", 5, "the node says it runs nothing")
        grown_bytes = int(client.info("memory")["used_memory"]) - used_bytes
        print(f"broker: {grown_bytes / 1024:.0f} KiB more than before")
        assert grown_bytes < MIB
        left = {key.split(":")[1] for key in leftovers.keys(client)}
        steady = {"node", "nodes", "changes", "hub", "hubs", "doorbell", "control", "dead", "{jobs}", "history"}
        assert left <= steady, left
        assert leftovers.immortal(client) == []
    assert chain.engine.state()["open"] == 0
    assert get(chain.hub, "/health").json["open_requests"] == 0


def _requests(client: redis.Redis) -> list[str]:
    return [key for key in leftovers.keys(client) if key.startswith("ghub:request:")]


@pytest.mark.slow
def test_hub_and_provider_do_not_grow_with_what_they_have_done(
    chain: Chain, hub_process: psutil.Process, provider_process: psutil.Process, module_grid: Grid
) -> None:
    processes = {"hub": hub_process, "provider": provider_process}
    for _ in range(2):
        _send(chain.hub, 600)
    before = {name: one.memory_info().rss for name, one in processes.items()}
    for _ in range(2):
        _send(chain.hub, 1000)
    with module_grid.redis() as client:
        leftovers.until_at_rest(client, 5)
    grown = {name: (one.memory_info().rss - before[name]) / MIB for name, one in processes.items()}
    print(f"from { ({name: round(rss / MIB) for name, rss in before.items()}) } MiB by {grown} after 2,000 more")
    assert max(grown.values()) < 6, grown


def test_no_connection_stays_behind_a_client(
    chain: Chain, hub_process: psutil.Process, provider_process: psutil.Process
) -> None:
    post(chain.hub, chat())
    port = int(chain.hub.rpartition(":")[2])

    def clients() -> int:
        return sum(one.status == "ESTABLISHED" and one.laddr.port == port for one in hub_process.net_connections("tcp"))

    def engine_connections() -> int:
        engine = int(chain.engine.url.rpartition(":")[2])
        found = provider_process.net_connections("tcp")
        return sum(bool(one.raddr) and one.raddr.port == engine and one.status != "TIME_WAIT" for one in found)

    _send(chain.hub, 200)
    until(lambda: clients() == 0, 3, clients)  # uvicorn itself leaves an idle one after five seconds
    until(lambda: engine_connections() <= 8, 5, engine_connections)
    threads = hub_process.num_threads()
    files = hub_process.num_fds()
    _send(chain.hub, 200)
    until(lambda: hub_process.num_fds() <= files + 2, 5, lambda: (files, hub_process.num_fds()))
    assert hub_process.num_threads() <= threads + 1
