"""A model is asked to load only where it would fit; what nobody knows speaks for it."""

import dataclasses
from collections.abc import Sequence

from common.types import ModelId
from provider.gate.memory import fits
from provider.gate.readings import GpuReading, GpuSnapshot
from provider.protocol.engine import EngineStatus, ModelInfo

MIB = 1024 * 1024


def gpu(index: int = 0, *, used: int | None = 0, total: int | None = 1000) -> GpuReading:
    return GpuReading(index, "card", f"GPU-{index}", memory_used_mib=used, memory_total_mib=total)


def model(mib: float | None, *, loaded: bool = False, held: int | None = None) -> ModelInfo:
    size = None if mib is None else int(mib * MIB)
    return ModelInfo(ModelId(f"m{mib}"), loaded, size, gpu_bytes=None if held is None else held * MIB)


def fit(
    wanted: ModelInfo,
    *gpus: GpuReading,
    others: tuple[ModelInfo, ...] = (),
    chosen: Sequence[int | str] | None = None,
    factor: float = 1,
    is_working: bool = True,
) -> bool:
    status = EngineStatus("ollama", "http://127.0.0.1:11434", models=(wanted, *others))
    return fits(wanted, status, GpuSnapshot(gpus), chosen, factor=factor, is_working=is_working)


class TestSizes:
    def test_weights_as_large_as_the_free_memory_fit_and_a_byte_more_do_not(self) -> None:
        assert fit(model(600), gpu(used=400))
        too_large = dataclasses.replace(model(600), size_bytes=600 * MIB + 1)
        assert not fit(too_large, gpu(used=400))

    def test_the_factor_comes_on_top_of_the_weights(self) -> None:
        assert fit(model(500), gpu(used=400), factor=1.2)
        assert not fit(model(501), gpu(used=400), factor=1.2)

    def test_a_full_gpu_has_no_room_and_not_less_than_none(self) -> None:
        assert not fit(model(1), gpu(used=1001))
        assert fit(model(1000), gpu(0, used=1001), gpu(1))

    def test_a_model_may_be_split_over_the_chosen_gpus_only(self) -> None:
        assert fit(model(1800), gpu(0), gpu(1))
        assert not fit(model(1800), gpu(0), gpu(1), chosen=["gpu-1"])


class TestRoomThatTheEngineCanMake:
    loaded = model(300, loaded=True, held=350)

    def test_while_nothing_runs_what_it_holds_counts_as_free(self) -> None:
        assert fit(model(550), gpu(used=800), others=(self.loaded,), is_working=False)
        assert not fit(model(551), gpu(used=800), others=(self.loaded,), is_working=False)

    def test_while_a_job_runs_it_does_not(self) -> None:
        assert not fit(model(550), gpu(used=800), others=(self.loaded,), is_working=True)

    def test_a_figure_that_is_out_of_date_makes_no_more_room_than_there_is(self) -> None:
        assert not fit(model(1001), gpu(used=0), others=(self.loaded,), is_working=False)

    def test_a_loaded_model_of_unknown_hold_makes_none(self) -> None:
        vague = model(300, loaded=True)
        assert not fit(model(550), gpu(used=800), others=(vague,), is_working=False)


class TestWhatSpeaksForAModel:
    def test_being_loaded(self) -> None:
        assert fit(model(5000, loaded=True), gpu(used=1000))

    def test_an_unknown_size(self) -> None:
        assert fit(model(None), gpu(used=1000))

    def test_a_gpu_that_does_not_tell_its_memory(self) -> None:
        assert fit(model(5000), gpu(used=None))
        assert fit(model(5000), gpu(total=None))
        assert fit(model(5000), gpu(0, used=1000), gpu(1, used=None))

    def test_no_gpu_that_could_be_full(self) -> None:
        assert fit(model(5000))
        assert fit(model(5000), gpu(), chosen=[])

    def test_a_chosen_gpu_that_is_not_there(self) -> None:
        assert fit(model(5000), gpu(0), chosen=[0, 1])
