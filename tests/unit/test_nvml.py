"""NVML readings, through the real pynvml and a stub of the driver's library."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from provider.gate.readings import GpuProcess, GpuReading, GpuSnapshot
from tests.doubles.nvml.build import SONAME, build_library
from tests.doubles.nvml.reading import Reader
from tests.support.nvml import NvmlCode, StubGpu, StubNvml, StubSample

AT_EVERY_CALL = 0.0
NEVER_AGAIN = 3600.0


def warm(reader: Reader) -> Reader:
    """With its process started, so that samples made now are still young when it reads them."""
    reader.sample()
    return reader


Read = Callable[..., Reader]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(tmp_path: Path, library: Path) -> StubNvml:
    return StubNvml(tmp_path, library)


@pytest.fixture
def read() -> Iterator[Read]:
    with ExitStack() as stack:

        def start(nvml: StubNvml, retry_gap_s: float = AT_EVERY_CALL) -> Reader:
            reader = Reader(nvml, retry_gap_s)
            stack.callback(reader.end)
            return reader

        yield start


def test_the_figures_are_those_the_driver_tells(nvml: StubNvml, read: Read):
    first = StubGpu(
        name="NVIDIA GeForce RTX 4090",
        uuid="GPU-8f1e",
        utilization_pct=85,
        memory_used_mib=20_001,
        memory_total_mib=24_564,
        temperature_c=71,
        power_w=402.5,
        processes={4711: 60, 42: 25},
    )
    nvml.set(first, StubGpu(name="NVIDIA T4", uuid="GPU-0002"), driver_version="570.86.10", cuda_version="12.8")
    assert read(nvml).sample() == GpuSnapshot(
        gpus=(
            GpuReading(
                index=0,
                name="NVIDIA GeForce RTX 4090",
                uuid="GPU-8f1e",
                utilization_pct=85,
                memory_used_mib=20_001,
                memory_total_mib=24_564,
                temperature_c=71,
                power_w=402.5,
                processes=(GpuProcess(42, 25), GpuProcess(4711, 60)),
            ),
            GpuReading(
                index=1,
                name="NVIDIA T4",
                uuid="GPU-0002",
                utilization_pct=0,
                memory_used_mib=500,
                memory_total_mib=24_564,
                temperature_c=40,
                power_w=60.0,
                processes=(),
            ),
        ),
        driver_version="570.86.10",
        cuda_version="12.8",
    )


def test_each_reading_is_new(nvml: StubNvml, read: Read):
    reader = read(nvml)
    told = []
    for pct in (85, 5, 95):
        nvml.set(StubGpu(utilization_pct=pct, processes={7: pct}))
        (gpu,) = reader.sample().gpus
        told.append((gpu.utilization_pct, gpu.processes))
    assert told == [(pct, (GpuProcess(7, pct),)) for pct in (85, 5, 95)]


@pytest.mark.parametrize(
    ("function", "field"),
    [
        ("nvmlDeviceGetUtilizationRates", "utilization_pct"),
        ("nvmlDeviceGetTemperature", "temperature_c"),
        ("nvmlDeviceGetPowerUsage", "power_w"),
        ("nvmlDeviceGetProcessUtilization", "processes"),
    ],
)
@pytest.mark.parametrize("code", [NvmlCode.NOT_SUPPORTED, NvmlCode.NO_PERMISSION, NvmlCode.UNKNOWN])
def test_what_one_gpu_cannot_tell_is_unknown_alone(
    nvml: StubNvml, read: Read, function: str, field: str, code: NvmlCode
):
    nvml.set(StubGpu(errors={function: code}), StubGpu())
    hindered, whole = read(nvml).sample().gpus
    unknown = {name for name in GpuReading.__slots__ if getattr(hindered, name) is None}
    assert unknown == {field}
    assert all(getattr(whole, name) is not None for name in GpuReading.__slots__)


def test_memory_shared_with_the_cpu_is_unknown(nvml: StubNvml, read: Read):
    nvml.set(StubGpu(errors={"nvmlDeviceGetMemoryInfo": NvmlCode.NOT_SUPPORTED}))
    (gpu,) = read(nvml).sample().gpus
    assert (gpu.memory_used_mib, gpu.memory_total_mib, gpu.utilization_pct) == (None, None, 0)


def test_names_and_versions_that_are_not_told_or_not_readable_are_empty(nvml: StubNvml, read: Read):
    errors = {"nvmlDeviceGetName": NvmlCode.UNKNOWN, "nvmlDeviceGetUUID": NvmlCode.NOT_SUPPORTED}
    versions = {
        "nvmlSystemGetDriverVersion": NvmlCode.UNKNOWN,
        "nvmlSystemGetCudaDriverVersion_v2": NvmlCode.FUNCTION_NOT_FOUND,
    }
    nvml.set(StubGpu(utilization_pct=9, errors=errors), StubGpu(name="NVIDIA \udcff"), errors=versions)
    snapshot = read(nvml).sample()
    nameless, garbled = snapshot.gpus
    assert (nameless.name, nameless.uuid, nameless.utilization_pct) == ("", "", 9)
    assert (garbled.name, garbled.uuid) == ("", "GPU-stub-1")
    assert (snapshot.driver_version, snapshot.cuda_version, snapshot.error) == ("", "", "")


REFUSES = {
    "nvmlDeviceGetUtilizationRates": NvmlCode.NOT_SUPPORTED,
    "nvmlDeviceGetProcessUtilization": NvmlCode.NOT_SUPPORTED,
}


@pytest.mark.parametrize("errors", [REFUSES, {}], ids=["refused", "told"])
def test_under_mig_neither_utilisation_nor_processes_are_known_but_the_rest_is(
    nvml: StubNvml, read: Read, errors: dict[str, int]
):
    shared_out = StubGpu(is_mig=True, utilization_pct=50, processes={7: 50}, errors=errors)
    nvml.set(shared_out, StubGpu(is_mig=False, utilization_pct=3))
    shared_out, plain = read(nvml).sample().gpus
    assert (shared_out.utilization_pct, shared_out.processes) == (None, None)
    assert (shared_out.memory_used_mib, shared_out.temperature_c) == (500, 40)
    assert plain.utilization_pct == 3


def test_a_percentage_beyond_a_hundred_is_a_hundred(nvml: StubNvml, read: Read):
    nvml.set(StubGpu(utilization_pct=4_000))
    assert read(nvml).sample().gpus[0].utilization_pct == 100


def test_a_process_with_several_samples_counts_with_their_mean(nvml: StubNvml, read: Read):
    reader = warm(read(nvml))
    nvml.set(StubGpu(samples=(StubSample(7, 90, 0.2), StubSample(8, 10, 0.1), StubSample(7, 30, 0.1))))
    assert reader.sample().gpus[0].processes == (GpuProcess(7, 60), GpuProcess(8, 10))


def test_samples_of_processes_long_gone_or_from_a_clock_since_set_back_do_not_count(nvml: StubNvml, read: Read):
    samples = (StubSample(7, 90, age_s=2), StubSample(8, 90, age_s=3600), StubSample(9, 90, age_s=-3600))
    nvml.set(StubGpu(samples=samples, processes={10: 1}))
    assert read(nvml).sample().gpus[0].processes == (GpuProcess(10, 1),)


def test_a_driver_that_samples_once_a_second_shows_its_users_at_every_reading_between(nvml: StubNvml, read: Read):
    reader = warm(read(nvml))
    nvml.set(StubGpu(samples=(StubSample(7, 90, age_s=0),)))
    assert [reader.sample().gpus[0].processes for _ in range(3)] == [(GpuProcess(7, 90),)] * 3


def test_samples_left_unfilled_or_with_impossible_values_do_not_count(nvml: StubNvml, read: Read):
    nvml.set(StubGpu(processes={0: 50, 7: 4_294_967_295, 8: 101, 9: 100}))
    assert read(nvml).sample().gpus[0].processes == (GpuProcess(9, 100),)


def test_a_lost_gpu_of_two_tells_nothing_but_who_it_is_and_hides_nothing_of_the_other(nvml: StubNvml, read: Read):
    reader = read(nvml)
    nvml.set(StubGpu(), StubGpu(utilization_pct=40))
    reader.sample()
    for function in ("*", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetProcessUtilization"):
        nvml.set(StubGpu(errors={function: NvmlCode.GPU_IS_LOST}), StubGpu(utilization_pct=41))
        snapshot = reader.sample()
        assert snapshot.gpus[0] == GpuReading(0, "NVIDIA Stub 4090", "GPU-stub-0"), function
        assert snapshot.gpus[1].utilization_pct == 41
        assert snapshot.error == ""


def test_a_gpu_lost_from_the_beginning_is_there_without_a_name(nvml: StubNvml, read: Read):
    nvml.set(StubGpu(errors={"*": NvmlCode.GPU_IS_LOST}), StubGpu())
    lost, whole = read(nvml).sample().gpus
    assert lost == GpuReading(0, "", "")
    assert whole.name == "NVIDIA Stub 4090"


def test_until_a_lost_gpu_is_tried_again_the_other_is_read_as_before(nvml: StubNvml, read: Read):
    reader = read(nvml, NEVER_AGAIN)
    nvml.set(StubGpu(errors={"*": NvmlCode.GPU_IS_LOST}), StubGpu())
    reader.sample()
    nvml.set(StubGpu(), StubGpu(utilization_pct=70))
    assert [gpu.utilization_pct for gpu in reader.sample().gpus] == [None, 70]


def test_a_gpu_that_must_be_reset_tells_nothing(nvml: StubNvml, read: Read):
    nvml.set(StubGpu(errors={"nvmlDeviceGetMemoryInfo": NvmlCode.RESET_REQUIRED}), StubGpu())
    waiting, whole = read(nvml).sample().gpus
    assert waiting == GpuReading(0, "", "")
    assert whole.utilization_pct == 0


def test_a_lost_gpu_that_was_reset_is_read_again(nvml: StubNvml, read: Read):
    reader = read(nvml)
    nvml.set(StubGpu(errors={"*": NvmlCode.GPU_IS_LOST}))
    assert reader.sample().gpus[0].utilization_pct is None
    nvml.set(StubGpu(utilization_pct=6))
    assert reader.sample().gpus[0].utilization_pct == 6


def test_a_driver_without_a_gpu_says_so_and_one_plugged_in_later_is_found(nvml: StubNvml, read: Read):
    reader = read(nvml)
    nvml.set(driver_version="570.1")
    assert reader.sample() == GpuSnapshot(
        driver_version="570.1", cuda_version="12.8", error="the NVIDIA driver finds no GPU"
    )
    nvml.set(StubGpu())
    snapshot = reader.sample()
    assert (len(snapshot.gpus), snapshot.error) == (1, "")


def test_without_the_library_it_says_so_and_a_driver_installed_later_is_found(
    tmp_path: Path, library: Path, read: Read
):
    # A file that is no library keeps the loader from one that this machine may really have.
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / SONAME).write_text("no library")
    nvml = StubNvml(tmp_path, folder)
    reader = read(nvml)
    for _ in range(2):
        snapshot = reader.sample()
        assert snapshot.gpus == ()
        assert snapshot.error.startswith("no NVIDIA driver: ")
    (folder / SONAME).unlink()
    (folder / SONAME).symlink_to(library / SONAME)
    assert reader.sample().gpus[0].name == "NVIDIA Stub 4090"


def test_a_driver_that_is_loaded_later_is_found(nvml: StubNvml, read: Read):
    nvml.unload_driver()
    reader = read(nvml)
    for _ in range(2):
        assert reader.sample() == GpuSnapshot(
            error="the NVIDIA driver is installed, but its kernel module is not loaded"
        )
    nvml.set(StubGpu(utilization_pct=12))
    assert reader.sample().gpus[0].utilization_pct == 12


def test_between_two_attempts_the_last_error_stands(nvml: StubNvml, read: Read):
    nvml.unload_driver()
    reader = read(nvml, NEVER_AGAIN)
    refused = reader.sample()
    nvml.set(StubGpu())
    assert "not loaded" in refused.error
    assert reader.sample() == refused


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (NvmlCode.LIB_RM_VERSION_MISMATCH, "differ in version"),
        (NvmlCode.NO_PERMISSION, "no permission"),
        (NvmlCode.UNKNOWN, "does not answer: Unknown Error"),
        (28, "does not answer: Told By The Stub"),
    ],
)
def test_a_driver_that_refuses_a_session_is_told_in_a_sentence(nvml: StubNvml, read: Read, code: int, said: str):
    nvml.set(StubGpu(), errors={"nvmlInitWithFlags": code})
    snapshot = read(nvml).sample()
    assert said in snapshot.error
    assert (snapshot.gpus, snapshot.driver_version) == ((), "")


@pytest.mark.parametrize(
    "code", [NvmlCode.DRIVER_NOT_LOADED, NvmlCode.UNINITIALIZED, NvmlCode.LIB_RM_VERSION_MISMATCH, NvmlCode.GPU_IS_LOST]
)
def test_a_driver_that_goes_in_mid_run_and_returns_is_read_again(nvml: StubNvml, read: Read, code: NvmlCode):
    reader = read(nvml)
    assert len(reader.sample().gpus) == 1
    nvml.set(StubGpu(), errors={"*": code})
    for _ in range(2):
        gone = reader.sample()
        assert gone.gpus == ()
        assert gone.error
    nvml.set(StubGpu(utilization_pct=33))
    assert reader.sample().gpus[0].utilization_pct == 33


@pytest.mark.parametrize("code", [NvmlCode.DRIVER_NOT_LOADED, NvmlCode.UNINITIALIZED, NvmlCode.LIB_RM_VERSION_MISMATCH])
@pytest.mark.parametrize("function", ["nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetTemperature"])
def test_a_driver_that_goes_in_mid_reading_leaves_no_half_of_it(
    nvml: StubNvml, read: Read, function: str, code: NvmlCode
):
    reader = read(nvml)
    nvml.set(StubGpu(), StubGpu(errors={function: code}))
    snapshot = reader.sample()
    assert snapshot.gpus == ()
    assert snapshot.error
    nvml.set(StubGpu(), StubGpu())
    assert len(reader.sample().gpus) == 2


def test_a_driver_that_takes_its_time_is_waited_for(nvml: StubNvml, read: Read):
    reader = warm(read(nvml))
    nvml.set(StubGpu(utilization_pct=7), delay_ms=30)
    began = time.monotonic()
    assert reader.sample().gpus[0].utilization_pct == 7
    assert time.monotonic() - began > 0.1


def test_a_closed_probe_has_ended_its_session_and_begins_another_when_read(nvml: StubNvml, read: Read):
    reader = warm(read(nvml))
    nvml.set(StubGpu(), errors={"nvmlInitWithFlags": NvmlCode.UNKNOWN})
    assert len(reader.sample().gpus) == 1
    reader.close_probe()
    reader.close_probe()
    assert reader.sample().gpus == ()
    nvml.set(StubGpu())
    assert len(reader.sample().gpus) == 1
    assert reader.end() == 0
