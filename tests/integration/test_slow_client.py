"""A client that leaves its answer unread costs the broker so much memory and no more."""

from tests.support import leftovers
from tests.support.call import Call, post
from tests.support.grid import Grid, chat
from tests.support.processes import until

SETTINGS = {"GHUB_HUB_CLIENT_BUFFER_BYTES": "65536", "GHUB_HUB_MAX_REPLY_BYTES": str(4 * 2**20)}
LONG = chat(tokens=20_000, stream=True, double={"event_bytes": 4000, "delay_ms": 4, "per_write": 4})
"""A megabyte a second, for more than a minute."""


def test_past_the_limit_its_request_ends_and_its_engine_is_freed(grid: Grid) -> None:
    chain = grid.chain(**SETTINGS)
    with grid.redis() as client, Call(chain.hub, LONG, receive_buffer_bytes=4096) as slow:
        until(lambda: chain.engine.state()["open"] == 1, 5, chain.engine.state)
        until(lambda: chain.engine.state()["open"] == 0, 20, chain.engine.state)
        until(lambda: leftovers.replies(client) == [], 5, lambda: leftovers.told(client))
        assert chain.engine.state()["cancelled"] == 1
        told = slow.finish()
    assert told.error["code"] == "client_too_slow"
    assert told.is_ended_once
    assert post(chain.hub, chat(tokens=2)).status == 200


def test_one_that_reads_a_long_answer_gets_all_of_it(grid: Grid) -> None:
    """Longer than the limit: it is no limit of answers."""
    chain = grid.chain(**SETTINGS)
    told = post(chain.hub, {**LONG, "max_tokens": 2000, "double": {"event_bytes": 4000}})
    assert told.is_ended_once
    assert len(told.text) > 7_000_000
