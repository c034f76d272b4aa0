"""One model under several names: `llama3` is `llama3:latest` and `Llama3`, whichever of them a client writes."""

import pytest

from common.streams.jobs import NEAR
from tests.doubles.reading import numbered
from tests.support.call import get, post
from tests.support.grid import Chain, Grid, chat

SERVED = ("llama3", "second:latest")


@pytest.fixture(scope="module")
def _chain(module_grid: Grid) -> Chain:
    chain = module_grid.chain(*SERVED)
    module_grid.wait_for_model(chain.hub, SERVED[1])
    return chain


@pytest.fixture
def chain(_chain: Chain) -> Chain:
    """A chain that serves one model under its bare name and another with its tag."""
    _chain.engine.reset()
    return _chain


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("llama3", "llama3"),
        ("llama3:latest", "llama3"),
        ("second:latest", "second:latest"),
        ("second", "second:latest"),
        ("LLaMA3", "llama3"),
        ("Second:Latest", "second:latest"),
        ("llama3:LATEST", "llama3"),
    ],
)
def test_a_model_answers_to_all_of_its_names(chain: Chain, module_grid: Grid, asked: str, served: str) -> None:
    answer = post(chain.hub, chat(model=asked, tokens=5))
    assert answer.said == numbered(0, 5)
    assert [one["model"] for one in chain.engine.state()["requests"]] == [served], "engines know their own names only"
    assert get(chain.hub, f"/v1/models/{asked}").json["id"] == served
    with module_grid.redis() as client:
        assert client.hget(f"ghub:request:{answer.headers['x-request-id']}", "model") == served
        lanes = [lane.partition(":") for lane in client.smembers("ghub:{jobs}:lanes")]
    assert {model for lane, _, model in lanes if lane != NEAR} == {*SERVED}, "no lane was made that no node looks at"


@pytest.mark.parametrize("name", ["llama3:8b", "llama3:latest:latest", "llama"])
def test_another_name_is_another_model(chain: Chain, name: str) -> None:
    assert post(chain.hub, chat(model=name)).error["code"] == "model_not_found"
    assert get(chain.hub, f"/v1/models/{name}").error["code"] == "model_not_found"
    assert chain.engine.state()["started"] == 0
