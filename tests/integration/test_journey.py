"""The journey of a request through real processes, on each broker."""

from urllib.parse import quote

import httpx2

from tests.doubles.reading import numbered, said_in
from tests.support import leftovers
from tests.support.call import get, post
from tests.support.grid import Grid, chat

ODD_NAMES = ("org/Model-1.5:Q4_K_M", "with space", "наш-модель", "{jobs}", "a:b:c", "*", "retry:tiny", "waiting:x")


def test_a_stream_and_a_whole_answer_arrive_complete(grid_on_any: Grid) -> None:
    engine = grid_on_any.engine()
    grid_on_any.provider(engine.url)
    hub = grid_on_any.hub()
    streamed = httpx2.post(f"{hub}/v1/chat/completions", json=chat(tokens=50, stream=True), timeout=20)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert said_in(streamed.text) == numbered(0, 50)
    assert streamed.text.endswith("data: [DONE]\n\n")
    whole = httpx2.post(f"{hub}/v1/chat/completions", json=chat(tokens=50), timeout=20)
    assert whole.json()["choices"][0]["message"]["content"] == numbered(0, 50)
    assert whole.headers["x-ghub-node"] == "node-0"
    assert whole.headers["x-ghub-attempt"] == "1"


def test_models_of_any_name_are_listed_and_served(grid: Grid) -> None:
    chain = grid.chain(*ODD_NAMES)
    assert [one["id"] for one in get(chain.hub, "/v1/models").json["data"]] == sorted(ODD_NAMES)
    for name in ODD_NAMES:
        assert get(chain.hub, f"/v1/models/{quote(name, safe='')}").json["id"] == name
        assert post(chain.hub, chat(model=name, tokens=3)).said == numbered(0, 3)
        assert chain.engine.state()["requests"][-1]["model"] == name
    with grid.redis() as client:
        leftovers.until_at_rest(client, 2)
