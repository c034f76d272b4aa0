"""Slots: whatever comes at once and over however many lanes, a node never runs more than it has slots for."""

import pytest
import redis

from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import Call, post_all
from tests.support.grid import Grid, chat
from tests.support.processes import until


@pytest.fixture(scope="module")
def patient_hub(module_grid: Grid) -> str:
    """A hub that tries twice."""
    return module_grid.hub(GHUB_HUB_MAX_ATTEMPTS="2")


def test_a_burst_over_many_lanes_never_takes_more_than_the_free_slots(patient_hub: str, module_grid: Grid) -> None:
    """A blocking read may hand out one job from each lane at once; what exceeds the slots is given back, unfailed."""
    models = [f"burst-{n}:1b" for n in range(4)]
    slots = 3
    engine = module_grid.engine(*models, slots=100)
    module_grid.provider(engine.url, "burst-node", GHUB_PROVIDER_SLOTS=str(slots))
    for model in models:
        module_grid.wait_for_model(patient_hub, model)
    bodies = []
    for n in range(100):
        faults: dict[str, object] = {"status": 500} if n % 10 == 9 else {"delay_ms": 2}
        bodies.append(chat(model=models[n % 4], tokens=5, stream=n % 3 == 0, double=faults))
    answers = post_all(bodies, [patient_hub], within_s=45)
    for n, answer in enumerate(answers):
        if n % 10 == 9:
            assert (answer.status, answer.error["code"]) == (502, "engine_error"), answer.text
        else:
            assert answer.said == numbered(0, 5), answer.text
    state = engine.state()
    assert state["max_open"] <= slots
    assert state["started"] == 90 + 10 * 2, "each failure is tried twice, all else once"


def test_what_one_read_hands_out_beyond_the_free_slots_is_given_back_and_is_no_failure(module_grid: Grid) -> None:
    """A provider that waits on many lanes gets one job from each that fills at the same moment."""
    models = [f"at-once-{n}:1b" for n in range(4)]
    engine = module_grid.engine(*models, slots=100)
    hub = module_grid.hub(GHUB_HUB_MAX_ATTEMPTS="1", GHUB_HUB_MODEL_WAIT_S="30")

    def start() -> str:
        return module_grid.provider(engine.url, "single", GHUB_PROVIDER_SLOTS="1")

    node = start()
    for model in models:
        module_grid.wait_for_model(hub, model)
    assert module_grid.providers[node].stop() == 0
    lanes = {model: f"ghub:{{jobs}}:interactive:{model}" for model in models}
    calls = [Call(hub, chat(model=model, tokens=5, double={"delay_ms": 20})) for model in models]
    with module_grid.redis() as client:
        until(lambda: all(client.xlen(lane) == 1 for lane in lanes.values()), 5, lambda: leftovers.told(client))
        jobs = {lane: client.xrange(lane)[0] for lane in lanes.values()}
        client.delete(*lanes.values())
        start()
        until(lambda: _is_blocked(client, f"ghub-provider-{node}"), 5, client.client_list)
        with client.pipeline(transaction=True) as moment:
            for lane, (entry, fields) in jobs.items():
                moment.xadd(lane, fields, id=entry)
            moment.execute()
        answers = [call.finish() for call in calls]
    assert [answer.said for answer in answers] == [numbered(0, 5)] * len(models)
    attempts = sorted(int(answer.headers["x-ghub-attempt"]) for answer in answers)
    assert attempts[0] == 1
    assert attempts[-1] > 1, "nothing was given back: the moment did not come about"
    assert engine.state()["max_open"] == 1


def _is_blocked(client: redis.Redis, name: str) -> bool:
    """Whether a process waits in a read of lanes."""
    return any(
        one["name"] == name and one["cmd"] == "xreadgroup" and "b" in one["flags"] for one in client.client_list()
    )
