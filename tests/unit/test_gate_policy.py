"""From readings to a decision: quick to make way for an owner, slow to believe in a pause, honest about not knowing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.gate.policy import UNKNOWN_AFTER_SAMPLES, Load, LoadPolicy, resolve_unknown
from provider.settings import GateSettings, UnknownPolicy

INTERVAL_S = GateSettings().sample_interval_s
LEVELS = st.floats(0, 100)
READINGS = st.lists(st.tuples(st.none() | LEVELS, st.booleans(), st.floats(0, 3)), max_size=60)
"""What was read, whether we worked, and how long after the reading before."""
SETTINGS = st.builds(
    lambda threshold, part, samples, after: GateSettings(
        threshold_pct=threshold, hysteresis_pct=threshold * part, busy_after_samples=samples, idle_after_s=after
    ),
    st.floats(0, 100),
    st.floats(0, 1),
    st.integers(1, 5),
    st.floats(0, 5),
)


class Watch:
    """Feeds a policy at a steady pace and keeps the time."""

    def __init__(self, settings: GateSettings | None = None) -> None:
        self.policy = LoadPolicy(settings or GateSettings())
        self.now_s = 1000.0

    def see(self, *readings: float | None, is_working: bool = False) -> Load:
        for reading in readings:
            self.now_s += INTERVAL_S
            self.policy.update(self.now_s, reading, is_working=is_working)
        return self.policy.load

    def seconds_until(self, load: Load, reading: float) -> float:
        begin_s = self.now_s
        while self.see(reading) is not load:
            assert self.now_s - begin_s < 60
        return self.now_s - begin_s

    @classmethod
    def after(cls, load: Load, settings: GateSettings | None = None) -> "Watch":
        watch = cls(settings)
        watch.seconds_until(load, 85 if load is Load.BUSY else 0)
        return watch


class TestTheBeginning:
    def test_nothing_is_known(self) -> None:
        policy = LoadPolicy(GateSettings())
        assert policy.load is Load.UNKNOWN
        assert policy.busy_since_s is None

    def test_one_quiet_reading_may_be_a_pause_so_a_whole_wait_is_seen_first(self) -> None:
        watch = Watch()
        assert watch.see(0) is Load.UNKNOWN
        assert watch.seconds_until(Load.IDLE, 0) == GateSettings().idle_after_s

    def test_load_shows_after_two_readings(self) -> None:
        assert Watch().see(85) is Load.UNKNOWN
        assert Watch().see(85, 85) is Load.BUSY

    def test_a_machine_that_always_idles_just_below_the_threshold_opens(self) -> None:
        assert Watch().see(*[18] * 8) is Load.IDLE


class TestTheOwnerBeginsToWork:
    def test_it_is_busy_within_600_ms(self) -> None:
        assert Watch.after(Load.IDLE).seconds_until(Load.BUSY, 85) <= 0.6

    def test_a_single_peak_is_no_work(self) -> None:
        assert Watch.after(Load.IDLE).see(100, 0, 100, 0, 100, 5) is Load.IDLE

    def test_just_the_threshold_is_not_above_it(self) -> None:
        assert Watch.after(Load.IDLE).see(*[20] * 20) is Load.IDLE
        assert Watch.after(Load.IDLE).see(*[20.1] * 2) is Load.BUSY

    def test_it_counts_from_the_first_of_the_readings_that_showed_it(self) -> None:
        watch = Watch.after(Load.IDLE)
        watch.see(90, 0)
        begun_s = watch.now_s + INTERVAL_S
        watch.see(85, 85)
        assert watch.policy.busy_since_s == begun_s
        watch.see(85, 10, 85, 85)
        assert watch.policy.busy_since_s == begun_s

    def test_two_peaks_around_a_reading_that_failed_are_not_in_a_row(self) -> None:
        assert Watch.after(Load.IDLE).see(100, None, 100) is Load.IDLE


class TestTheOwnerStops:
    def test_it_is_idle_within_1500_ms(self) -> None:
        watch = Watch.after(Load.BUSY)
        assert watch.seconds_until(Load.IDLE, 5) <= 1.5
        assert watch.policy.busy_since_s is None

    def test_a_pause_shorter_than_the_wait_changes_nothing(self) -> None:
        watch = Watch.after(Load.BUSY)
        for _ in range(10):
            assert watch.see(0, 0, 0, 0, 50) is Load.BUSY

    def test_readings_within_the_hysteresis_are_not_quiet_enough(self) -> None:
        watch = Watch.after(Load.BUSY)
        assert watch.see(*[16] * 40) is Load.BUSY
        assert watch.see(*[15] * 5) is Load.IDLE

    def test_without_a_wait_the_first_quiet_reading_opens(self) -> None:
        assert Watch.after(Load.BUSY, GateSettings(idle_after_s=0)).see(0) is Load.IDLE


class TestReadingsThatFail:
    @pytest.mark.parametrize("load", [Load.IDLE, Load.BUSY])
    def test_one_or_two_change_nothing(self, load: Load) -> None:
        watch = Watch.after(load)
        assert watch.see(*[None] * (UNKNOWN_AFTER_SAMPLES - 1)) is load

    @pytest.mark.parametrize("load", [Load.IDLE, Load.BUSY])
    def test_a_row_of_them_makes_it_unknown(self, load: Load) -> None:
        watch = Watch.after(load)
        assert watch.see(*[None] * UNKNOWN_AFTER_SAMPLES) is Load.UNKNOWN
        assert watch.policy.busy_since_s is None

    def test_ever_so_many_among_good_ones_are_no_row(self) -> None:
        watch = Watch.after(Load.IDLE)
        for _ in range(10):
            assert watch.see(*[None] * (UNKNOWN_AFTER_SAMPLES - 1), 3) is Load.IDLE

    def test_quiet_on_both_sides_of_one_is_not_quiet_all_the_time(self) -> None:
        watch = Watch.after(Load.BUSY)
        assert watch.see(0, 0, None, 0, 0, 0, 0) is Load.BUSY
        assert watch.see(0) is Load.IDLE

    def test_a_driver_that_comes_back_is_believed_anew(self) -> None:
        watch = Watch.after(Load.IDLE)
        watch.see(*[None] * UNKNOWN_AFTER_SAMPLES)
        assert watch.see(0, 0) is Load.UNKNOWN
        assert watch.seconds_until(Load.IDLE, 0) <= 1


class TestSharesThatCannotBeToldApart:
    @pytest.mark.parametrize("load", list(Load))
    def test_the_former_decision_stands_however_long_we_work(self, load: Load) -> None:
        watch = Watch() if load is Load.UNKNOWN else Watch.after(load)
        assert watch.see(*[None] * 400, is_working=True) is load

    def test_quiet_before_our_work_does_not_count_towards_the_wait_after_it(self) -> None:
        watch = Watch.after(Load.BUSY)
        watch.see(0, 0, 0)
        watch.see(*[None] * 40, is_working=True)
        assert watch.see(0) is Load.BUSY
        assert watch.seconds_until(Load.IDLE, 0) == 1

    def test_failures_before_it_and_after_it_are_not_one_row(self) -> None:
        watch = Watch.after(Load.IDLE)
        watch.see(*[None] * (UNKNOWN_AFTER_SAMPLES - 1))
        watch.see(None, is_working=True)
        assert watch.see(*[None] * (UNKNOWN_AFTER_SAMPLES - 1)) is Load.IDLE


class TestWhateverIsRead:
    @given(SETTINGS, READINGS)
    def test_it_is_never_idle_after_a_full_row_above_the_threshold(
        self, settings: GateSettings, readings: list[tuple[float | None, bool, float]]
    ) -> None:
        policy, now_s, row = LoadPolicy(settings), 0.0, 0
        for pct, is_working, gap_s in readings:
            now_s += gap_s
            load = policy.update(now_s, pct, is_working=is_working)
            row = row + 1 if pct is not None and pct > settings.threshold_pct else 0
            if row >= settings.busy_after_samples:
                assert load is Load.BUSY
            assert (policy.busy_since_s is not None) == (load is Load.BUSY)
            assert policy.busy_since_s is None or policy.busy_since_s <= now_s

    @given(SETTINGS, READINGS, st.floats(0, 1))
    def test_lasting_quiet_always_ends_idle(
        self, settings: GateSettings, readings: list[tuple[float | None, bool, float]], part: float
    ) -> None:
        policy, now_s = LoadPolicy(settings), 0.0
        for pct, is_working, gap_s in readings:
            now_s += gap_s
            policy.update(now_s, pct, is_working=is_working)
        quiet_pct = (settings.threshold_pct - settings.hysteresis_pct) * part
        policy.update(now_s + 1, quiet_pct, is_working=False)
        assert policy.update(now_s + 2 + settings.idle_after_s, quiet_pct, is_working=False) is Load.IDLE

    @given(st.sampled_from([Load.IDLE, Load.BUSY]), st.lists(st.floats(15, 20, exclude_min=True), max_size=60))
    def test_swinging_within_the_hysteresis_never_turns_it(self, load: Load, readings: list[float]) -> None:
        watch = Watch.after(load)
        for reading in readings:
            assert watch.see(reading) is load

    @given(st.sampled_from([Load.IDLE, Load.BUSY]), READINGS)
    def test_between_opening_and_closing_lies_at_least_the_wait(
        self, load: Load, readings: list[tuple[float | None, bool, float]]
    ) -> None:
        watch = Watch.after(load)
        now_s, high_s = watch.now_s, watch.now_s
        for pct, is_working, gap_s in readings:
            now_s += gap_s
            before = watch.policy.load
            after = watch.policy.update(now_s, pct, is_working=is_working)
            if before is Load.BUSY and after is Load.IDLE:
                assert now_s - high_s >= GateSettings().idle_after_s
            if pct is None or pct > 15:
                high_s = now_s


class TestWhatFollowsFromNotKnowing:
    def test_a_machine_without_a_gpu_counts_as_idle(self) -> None:
        assert resolve_unknown(None, has_gpu=False) is UnknownPolicy.ASSUME_IDLE

    def test_a_gpu_that_does_not_tell_leaves_it_to_the_engines_slots(self) -> None:
        assert resolve_unknown(None, has_gpu=True) is UnknownPolicy.SLOTS_ONLY

    @pytest.mark.parametrize("has_gpu", [True, False])
    @pytest.mark.parametrize("policy", list(UnknownPolicy))
    def test_what_is_set_holds(self, policy: UnknownPolicy, has_gpu: bool) -> None:
        assert resolve_unknown(policy, has_gpu=has_gpu) is policy
