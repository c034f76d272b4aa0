"""What people see of jobs that are set aside: counted in their lanes once they run, and explained while they wait."""

from dataclasses import replace

from common.streams.jobs import LaneName
from common.streams.queues import LaneLoad
from common.types import Lane, ModelId
from hub.grid.near_loads import with_near
from hub.why.answer import Why
from hub.why.requests import why_waiting
from tests.support import golden

MODEL, OTHER = ModelId("llama3.2:1b"), ModelId("other:1b")
INTERACTIVE, BATCH = (LaneName(lane, MODEL) for lane in (Lane.INTERACTIVE, Lane.BATCH))
ELSEWHERE = LaneName(Lane.BATCH, OTHER)


def test_jobs_that_nodes_took_by_lanes_of_their_own_run_in_the_lane_that_they_were_for() -> None:
    told = {"id": "r", "model": MODEL, "lane": "interactive"}
    node = replace(golden.NODE, running=({**told, "near": 1}, {**told, "near": 1}, told, {"near": 1}))
    loads = with_near({INTERACTIVE: LaneLoad(3, 1), BATCH: LaneLoad(0, 0), ELSEWHERE: LaneLoad(1, 1)}, [node])
    assert loads == {INTERACTIVE: LaneLoad(3, 3), BATCH: LaneLoad(0, 0), ELSEWHERE: LaneLoad(1, 1)}


def test_a_request_that_is_set_aside_says_for_whom() -> None:
    of_model = Why("model", "It is served.")
    fields = {"queued_at": "1", "lane": "interactive", "model": MODEL}
    for near, codes in {"desk": ["set-aside"], "": []}.items():
        why = why_waiting({**fields, "near": near}, 2, 0, of_model)
        assert [reason.code for reason in why.reasons] == codes
        assert all(near in reason.text for reason in why.reasons)
