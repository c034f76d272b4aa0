"""How engines come and go under a provider that stays."""

import signal
from collections.abc import Callable

from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import get, post
from tests.support.grid import Grid, chat
from tests.support.pair import QUICK, Pair, reasons
from tests.support.processes import until


def test_an_engine_that_dies_pauses_its_node_and_jobs_wait_for_it(pair: Pair) -> None:
    pair.first.kill()
    until(lambda: pair.reasons() == ["engine-down"], 5, pair.reasons)
    with pair.call(stream=True) as call, pair.grid.redis() as client:
        call.wait_for(": queued, 0 ahead")
        assert leftovers.jobs(client, pair.model) == 1
        assert leftovers.pending(client, pair.model) == 0
        pair.first.start()
        assert call.finish().said == numbered(0, 5)
    until(lambda: pair.reasons() == [], 3, pair.reasons)


def test_an_engine_that_dies_under_its_jobs_costs_only_what_was_begun(make_pair: Callable[..., Pair]) -> None:
    """Found out by the job itself: the probe comes too late to help."""
    pair = make_pair(GHUB_PROVIDER_ENGINE__PROBE_INTERVAL_S="30")
    begun = pair.call(1000, stream=True, double={"delay_ms": 20})
    begun.wait_for("t3 ")
    pair.first.kill()
    told = begun.finish()
    assert told.error["code"] == "engine_disconnected"
    assert told.is_ended_once
    until(lambda: pair.reasons() == ["engine-down"], 5, pair.reasons)
    with pair.call(stream=True) as waiting:
        waiting.wait_for(": queued, 0 ahead")
        pair.start_second()
        answer = waiting.finish()
    assert answer.said == numbered(0, 5)
    assert answer.fingerprint == pair.second.fingerprint


def test_a_provider_may_start_before_its_engine(module_grid: Grid, hub: str) -> None:
    engine = module_grid.engine("late:1b")
    engine.kill()
    node = module_grid.provider(engine.url, wait=False, **QUICK)
    until(lambda: reasons(module_grid, node) == ["engine-down"], 15, module_grid.providers[node].tail)
    assert "late:1b" not in _listed(hub)
    engine.start()
    module_grid.wait_for_model(hub, "late:1b", 3)
    assert post(hub, chat(model="late:1b", tokens=5)).said == numbered(0, 5)


def _listed(hub: str) -> set[str]:
    return {one["id"] for one in get(hub, "/v1/models").json["data"]}


def test_models_that_an_engine_gains_and_loses_show_within_ten_seconds(module_grid: Grid, hub: str) -> None:
    old = module_grid.engine("stays:1b", "goes:1b")
    module_grid.provider(old.url)
    module_grid.wait_for_model(hub, "goes:1b")
    old.kill()
    module_grid.engine("stays:1b", "comes:1b", port=int(old.url.rpartition(":")[2]))
    took_s = until(
        lambda: {"stays:1b", "goes:1b", "comes:1b"} & _listed(hub) == {"stays:1b", "comes:1b"}, 10, lambda: _listed(hub)
    )
    print(f"figure: the new list showed after {took_s:.1f} s")
    assert post(hub, chat(model="comes:1b", tokens=3)).said == numbered(0, 3)


def test_a_changed_model_list_shows_at_once_after_a_sighup(module_grid: Grid, hub: str) -> None:
    old = module_grid.engine("before:1b")
    node = module_grid.provider(old.url, GHUB_PROVIDER_ENGINE__PROBE_INTERVAL_S="300")
    module_grid.wait_for_model(hub, "before:1b")
    old.kill()
    module_grid.engine("after:1b", port=int(old.url.rpartition(":")[2]))
    assert "after:1b" not in _listed(hub)
    module_grid.providers[node].signal(signal.SIGHUP)
    module_grid.wait_for_model(hub, "after:1b", 4)
    assert post(hub, chat(model="after:1b", tokens=3)).said == numbered(0, 3)
