"""How a provider says that it stands: a state, reasons, and a report that can always be made."""

from dataclasses import replace

import pytest

from common.reasons import Reason
from common.report import HealthReport
from common.types import NodeState
from provider.protocol.engine import ModelInfo
from tests.unit.provider_parts import Parts, gpu_at, model


class TestState:
    def test_open_and_with_a_free_slot_it_is_idle(self) -> None:
        parts = Parts().open()
        assert (parts.standing.state, parts.standing.reasons) == (NodeState.IDLE, ())

    def test_with_every_slot_taken_it_is_busy_and_says_so(self) -> None:
        parts = Parts().open()
        parts.slots.take()
        assert parts.standing.state is NodeState.IDLE
        parts.slots.take()
        assert (parts.standing.state, parts.standing.reasons) == (NodeState.BUSY, ("no-free-slot",))
        assert parts.standing.busy() == {"busy": True, "reasons": ("no-free-slot",), "utilization_pct": None}

    def test_a_full_provider_has_no_reason_to_report_for_its_gate_is_open(self) -> None:
        parts = Parts().open()
        parts.slots.others = 2
        assert parts.standing.health().reasons == ()
        assert parts.standing.health().state is NodeState.BUSY

    @pytest.mark.parametrize("reason", [one for one in Reason if one is not Reason.DRAINING])
    def test_any_reason_pauses_it(self, reason: Reason) -> None:
        parts = Parts().open()
        parts.gate.set(reason, holds=True)
        assert (parts.standing.state, parts.standing.reasons) == (NodeState.PAUSED, (reason,))

    def test_draining_shows_whatever_else_holds(self) -> None:
        parts = Parts().open()
        parts.gate.set(Reason.DRAINING, holds=True)
        parts.gate.set(Reason.GPU_BUSY, holds=True)
        parts.slots.others = 2
        assert parts.standing.state is NodeState.DRAINING
        assert parts.standing.health().reasons == ("draining", "gpu-busy")


class TestReport:
    def test_it_tells_what_runs_and_where_it_is_reached(self) -> None:
        parts = Parts(tunnel={"url": "https://one.example.net"}).open()
        parts.slots.take()
        report = parts.standing.health()
        assert (report.node, report.slots, report.running) == ("desk", 2, 1)
        assert report.public_url == "https://one.example.net"
        assert Parts().standing.health().public_url == ""

    def test_without_readings_there_are_no_gpus(self) -> None:
        parts = Parts(gpu_at(50))
        assert (parts.standing.health().gpu_count, parts.standing.busy()["utilization_pct"]) == (0, None)

    def test_models_keep_what_the_engine_told(self) -> None:
        parts = Parts()
        told = model("a:1b", is_loaded=True, size_bytes=7, digest="d1")
        parts.engine.now = replace(parts.engine.now, models=(told,))
        (shown,) = parts.standing.health().models
        assert shown.model_dump() == {"id": "a:1b", "size_bytes": 7, "digest": "d1", "loaded": True}

    @pytest.mark.parametrize(
        "odd",
        [
            model("m" * 5000),
            model("a", digest="d" * 5000),
            model("a", size_bytes=10**30),
            model("a", size_bytes=-1),
        ],
        ids=["name", "digest", "more bytes than there are", "less than none"],
    )
    def test_an_odd_model_ends_no_report(self, odd: ModelInfo) -> None:
        parts = Parts()
        parts.engine.now = replace(parts.engine.now, models=(odd,))
        report = parts.standing.health()
        assert len(report.models) == 1
        HealthReport.model_validate_json(report.model_dump_json())

    def test_nor_do_more_models_and_longer_words_than_a_report_holds(self) -> None:
        parts = Parts()
        many = tuple(model(f"m{number}") for number in range(5000))
        parts.engine.now = replace(parts.engine.now, models=many, version="v" * 5000)
        report = parts.standing.health()
        assert report.models[0].id == "m0"
        HealthReport.model_validate_json(report.model_dump_json())
