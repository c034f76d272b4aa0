"""Whose load it is: total use while we rest, shares of processes while we work, and 'unknown' rather than a guess."""

from hypothesis import given
from hypothesis import strategies as st

from provider.gate.attribution import chosen_gpus, foreign_pct, missing_gpus
from provider.gate.readings import GpuProcess, GpuReading, GpuSnapshot

OURS = frozenset({10, 11})


def gpu(index: int = 0, *, total: int | None = 0, processes: dict[int, int] | None = None) -> GpuReading:
    running = None if processes is None else tuple(GpuProcess(pid, pct) for pid, pct in processes.items())
    return GpuReading(index, "card", f"GPU-00{index}A-ffff", utilization_pct=total, processes=running)


class TestWhileNoJobOfOursRuns:
    def test_all_use_is_by_others_also_that_of_the_engine(self) -> None:
        snapshot = GpuSnapshot((gpu(total=70, processes={10: 70}),))
        assert foreign_pct(snapshot, None, OURS, is_working=False) == 70

    def test_nobody_needs_to_know_the_processes(self) -> None:
        assert foreign_pct(GpuSnapshot((gpu(total=3),)), None, None, is_working=False) == 3

    def test_a_gpu_that_does_not_tell_leaves_it_unknown(self) -> None:
        assert foreign_pct(GpuSnapshot((gpu(total=None, processes={}),)), None, OURS, is_working=False) is None


class TestWhileOneRuns:
    def test_the_engines_processes_do_not_count(self) -> None:
        snapshot = GpuSnapshot((gpu(total=100, processes={10: 60, 11: 35}),))
        assert foreign_pct(snapshot, None, OURS, is_working=True) == 0

    def test_the_owners_processes_add_up(self) -> None:
        snapshot = GpuSnapshot((gpu(total=100, processes={10: 50, 77: 30, 78: 12}),))
        assert foreign_pct(snapshot, None, OURS, is_working=True) == 42

    def test_a_total_that_lags_behind_does_not_hide_the_owner(self) -> None:
        snapshot = GpuSnapshot((gpu(total=0, processes={77: 80}),))
        assert foreign_pct(snapshot, None, OURS, is_working=True) == 80

    def test_samples_of_different_moments_are_no_more_than_a_whole_gpu(self) -> None:
        snapshot = GpuSnapshot((gpu(total=100, processes={77: 80, 78: 70}),))
        assert foreign_pct(snapshot, None, OURS, is_working=True) == 100

    def test_nobody_on_the_gpu_is_zero_and_not_unknown(self) -> None:
        assert foreign_pct(GpuSnapshot((gpu(total=9, processes={}),)), None, OURS, is_working=True) == 0

    def test_a_driver_without_shares_leaves_it_unknown(self) -> None:
        assert foreign_pct(GpuSnapshot((gpu(total=90, processes=None),)), None, OURS, is_working=True) is None

    def test_an_engine_without_known_processes_leaves_it_unknown(self) -> None:
        assert foreign_pct(GpuSnapshot((gpu(total=90, processes={77: 90}),)), None, None, is_working=True) is None


class TestSeveralGpus:
    def test_the_busiest_of_the_chosen_decides(self) -> None:
        snapshot = GpuSnapshot((gpu(0, total=10), gpu(1, total=40), gpu(2, total=90)))
        assert foreign_pct(snapshot, [0, 1], None, is_working=False) == 40
        assert foreign_pct(snapshot, None, None, is_working=False) == 90

    def test_one_of_them_that_cannot_tell_leaves_it_unknown(self) -> None:
        snapshot = GpuSnapshot((gpu(0, total=10), gpu(1, total=None)))
        assert foreign_pct(snapshot, None, None, is_working=False) is None
        assert foreign_pct(snapshot, [0], None, is_working=False) == 10

    def test_a_chosen_gpu_that_is_not_there_leaves_it_unknown(self) -> None:
        assert foreign_pct(GpuSnapshot((gpu(0, total=10),)), [0, 1], None, is_working=False) is None

    def test_no_gpu_at_all_is_unknown(self) -> None:
        assert foreign_pct(GpuSnapshot(error="no driver"), None, None, is_working=False) is None

    def test_an_engine_that_uses_none_is_disturbed_by_nobody(self) -> None:
        assert foreign_pct(GpuSnapshot((gpu(0, total=90),)), (), None, is_working=False) == 0


class TestChoosing:
    snapshot = GpuSnapshot((gpu(0), gpu(1), gpu(2)))

    def test_by_index_or_uuid_each_once_in_the_machines_order(self) -> None:
        chosen = chosen_gpus(self.snapshot, [2, "GPU-000A-ffff", 0])
        assert [one.index for one in chosen] == [0, 2]

    def test_a_uuid_in_any_case_with_or_without_its_prefix(self) -> None:
        for spelling in ("gpu-001a-FFFF", "001A-ffff", "GPU-001A-ffff"):
            assert [one.index for one in chosen_gpus(self.snapshot, [spelling])] == [1]
            assert missing_gpus(self.snapshot, [spelling]) == ()

    def test_an_index_that_was_written_as_text(self) -> None:
        assert [one.index for one in chosen_gpus(self.snapshot, ["1"])] == [1]

    def test_those_that_are_not_there_are_named_as_they_were_written(self) -> None:
        assert missing_gpus(self.snapshot, [0, 7, "GPU-beef"]) == (7, "GPU-beef")

    def test_whoever_chooses_nothing_misses_nothing(self) -> None:
        assert chosen_gpus(self.snapshot, None) == self.snapshot.gpus
        assert missing_gpus(GpuSnapshot(error="no driver"), None) == ()


@given(st.dictionaries(st.integers(1, 30), st.integers(0, 100)), st.frozensets(st.integers(1, 30)), st.integers(1, 30))
def test_knowing_one_more_process_of_ours_never_makes_others_use_more(
    processes: dict[int, int], ours: frozenset[int], one_more: int
) -> None:
    snapshot = GpuSnapshot((gpu(processes=processes),))
    before = foreign_pct(snapshot, None, ours, is_working=True)
    after = foreign_pct(snapshot, None, ours | {one_more}, is_working=True)
    assert before is not None
    assert after is not None
    assert 0 <= after <= before <= 100
