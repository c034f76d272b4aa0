"""Windows of time: read off the clock on the wall, over midnight, weekends and both changes of the clock."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider.schedule import Schedule

AMSTERDAM = ZoneInfo("Europe/Amsterdam")
MONDAY = datetime(2026, 6, 1, tzinfo=AMSTERDAM)
FORWARD = datetime(2026, 3, 29, tzinfo=AMSTERDAM)
"""A Sunday on which 02:00 to 03:00 never comes."""
BACK = datetime(2026, 10, 25, tzinfo=AMSTERDAM)
"""A Sunday on which 02:00 to 03:00 comes twice."""


def schedule(*windows: str) -> Schedule:
    return Schedule.parse(windows, "Europe/Amsterdam")


def at(day: datetime, clock: str, *, fold: int = 0) -> datetime:
    hour, minute = map(int, clock.split(":"))
    return day.replace(hour=hour, minute=minute, fold=fold)


def open_days(plan: Schedule, clock: str) -> list[int]:
    return [day for day in range(7) if plan.is_open(at(MONDAY + timedelta(days=day), clock))]


class TestWindows:
    def test_none_means_always(self) -> None:
        assert schedule().is_open(MONDAY)
        assert schedule().next_change(MONDAY) is None

    def test_it_begins_with_its_first_minute_and_ends_before_its_last(self) -> None:
        plan = schedule("09:30-17:00")
        clocks = ("09:29", "09:30", "16:59", "17:00")
        assert [plan.is_open(at(MONDAY, clock)) for clock in clocks] == [False, True, True, False]

    def test_a_whole_day_ends_at_24(self) -> None:
        plan = schedule("sat,sun 00:00-24:00")
        assert open_days(plan, "00:00") == open_days(plan, "23:59") == [5, 6]

    def test_the_night_after_friday_belongs_to_friday(self) -> None:
        plan = schedule("mon-fri 22:00-08:00")
        assert open_days(plan, "23:00") == [0, 1, 2, 3, 4]
        assert open_days(plan, "07:59") == [1, 2, 3, 4, 5]
        assert open_days(plan, "08:00") == []

    def test_sundays_night_goes_on_into_monday(self) -> None:
        assert open_days(schedule("sun 22:00-08:00"), "07:00") == [0]

    def test_an_evening_up_to_midnight_may_be_written_either_way(self) -> None:
        for end in ("24:00", "00:00"):
            plan = schedule(f"mon 18:00-{end}")
            assert open_days(plan, "23:59") == [0]
            assert open_days(plan, "00:00") == []

    def test_several_add_up(self) -> None:
        plan = schedule("mon-fri 18:00-22:00", "20:00-23:00", "sat 00:00-24:00")
        assert open_days(plan, "19:00") == [0, 1, 2, 3, 4, 5]
        assert open_days(plan, "22:30") == [0, 1, 2, 3, 4, 5, 6]

    @pytest.mark.parametrize(
        ("days", "expected"),
        [
            ("mon,wed-fri", [0, 2, 3, 4]),
            ("Monday, WED - Friday", [0, 2, 3, 4]),
            ("fri-mon", [0, 4, 5, 6]),
            ("sun", [6]),
            ("tue-tue", [1]),
            ("thursday-saturday,sat", [3, 4, 5]),
        ],
    )
    def test_days_as_people_write_them(self, days: str, expected: list[int]) -> None:
        assert open_days(schedule(f" {days}  9:00 - 10:00 "), "09:00") == expected

    def test_the_moment_may_be_told_in_any_zone(self) -> None:
        plan = schedule("09:00-10:00")
        assert plan.is_open(datetime(2026, 6, 1, 7, 30, tzinfo=UTC))
        assert not plan.is_open(datetime(2026, 6, 1, 9, 30, tzinfo=UTC))

    def test_a_moment_without_a_zone_is_refused(self) -> None:
        with pytest.raises(ValueError, match="zone"):
            schedule().is_open(MONDAY.replace(tzinfo=None))


class TestWhatCannotBeRead:
    @pytest.mark.parametrize(
        ("window", "message"),
        [
            ("nightly", "window `nightly`: expected `.days. HH:MM-HH:MM`"),
            ("", "window ``: expected"),
            ("22-08", "expected `.days. HH:MM-HH:MM`"),
            ("22:00", "expected `.days. HH:MM-HH:MM`"),
            ("1320", "expected `.days. HH:MM-HH:MM`"),
            ("22:00-25:00", "`25:00` is no time of day; expected 00:00 up to 24:00"),
            ("22:60-23:00", "`22:60` is no time of day"),
            ("22:00-24:01", "`24:01` is no time of day"),
            ("24:00-08:00", "`24:00` is no time of day; expected 00:00 up to 23:59"),
            ("08:00-08:00", "for the whole day write `00:00-24:00`"),
            ("mon-fry 08:00-09:00", "`fry` is no day; expected mon, tue"),
            ("mon- 08:00-09:00", "`` is no day"),
            ("mon,,tue 08:00-09:00", "`` is no day"),
            ("mon-wed-fri 08:00-09:00", "`wed-fri` is no day"),
            ("m 08:00-09:00", "`m` is no day"),
        ],
    )
    def test_a_window_is_named_with_what_is_wrong_with_it(self, window: str, message: str) -> None:
        with pytest.raises(ValueError, match=message) as failure:
            schedule("08:00-09:00", window)
        assert f"window `{window}`" in str(failure.value)

    @pytest.mark.parametrize(
        "name", ["Europe/Amsterdm", "Europe", "../etc/localtime", "/etc/localtime", "Mars/Base", "x" * 300]
    )
    def test_a_zone_is_named(self, name: str) -> None:
        with pytest.raises(ValueError, match="is not known") as failure:
            Schedule.parse((), name)
        assert name in str(failure.value)

    def test_a_slip_in_a_zone_is_pointed_out(self) -> None:
        with pytest.raises(ValueError, match="did you mean `Europe/Amsterdam`"):
            Schedule.parse((), "Europe/Amsterdm")


class TestTheNextChange:
    def test_is_the_end_of_an_open_window(self) -> None:
        assert schedule("09:30-17:00").next_change(at(MONDAY, "10:00")) == at(MONDAY, "17:00")

    def test_is_the_next_begin_while_closed(self) -> None:
        assert schedule("09:30-17:00").next_change(at(MONDAY, "17:00")) == at(MONDAY, "09:30") + timedelta(days=1)

    def test_is_in_utc(self) -> None:
        change = schedule("09:30-17:00").next_change(at(MONDAY, "10:00"))
        assert change is not None
        assert change.tzinfo is UTC

    def test_windows_that_touch_are_one(self) -> None:
        plan = schedule("mon 20:00-24:00", "tue 00:00-06:00", "tue 05:00-07:00")
        assert plan.next_change(at(MONDAY, "21:00")) == at(MONDAY, "07:00") + timedelta(days=1)

    def test_may_be_almost_a_week_ahead(self) -> None:
        plan = schedule("mon 09:00-09:01")
        assert plan.next_change(at(MONDAY, "09:01")) == at(MONDAY, "09:00") + timedelta(days=7)

    def test_windows_that_fill_the_week_never_change(self) -> None:
        assert schedule("08:00-20:00", "20:00-08:00").next_change(MONDAY) is None


class TestTheNightThatLosesAnHour:
    def test_an_end_that_never_comes_is_the_jump(self) -> None:
        plan = schedule("22:00-02:30")
        before = at(FORWARD, "01:59")
        assert plan.is_open(before)
        assert not plan.is_open(before + timedelta(minutes=1))
        assert plan.next_change(before) == at(FORWARD, "03:00")

    def test_a_begin_that_never_comes_is_the_jump(self) -> None:
        plan = schedule("02:30-04:00")
        assert plan.next_change(at(FORWARD, "01:00")) == at(FORWARD, "03:00")
        assert plan.next_change(at(FORWARD, "03:00")) == at(FORWARD, "04:00")

    def test_a_window_that_never_comes_is_left_out(self) -> None:
        plan = schedule("sun 02:10-02:50")
        assert plan.next_change(at(FORWARD, "00:00")) == at(FORWARD + timedelta(days=7), "02:10")


class TestTheNightThatHasAnHourTwice:
    def test_an_end_in_it_comes_twice(self) -> None:
        plan = schedule("22:00-02:30")
        first, second = at(BACK, "02:30"), at(BACK, "02:30", fold=1)
        assert plan.next_change(at(BACK, "01:00")) == first.astimezone(UTC)
        assert [plan.is_open(first), plan.is_open(second)] == [False, False]
        again = plan.next_change(first)
        assert again == at(BACK, "02:00", fold=1).astimezone(UTC)
        assert plan.next_change(again) == second.astimezone(UTC)

    def test_a_window_around_it_is_an_hour_longer(self) -> None:
        plan = schedule("22:00-08:00")
        begin = at(BACK, "22:00") - timedelta(days=1)
        end = plan.next_change(begin)
        assert end is not None
        assert end - begin.astimezone(UTC) == timedelta(hours=11)


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_new_york")
class TestTheMachinesOwnZone:
    def test_follows_its_clock_in_winter_and_in_summer(self) -> None:
        plan = Schedule.parse(["09:00-10:00"], "")
        assert plan.is_open(datetime(2026, 1, 15, 14, 30, tzinfo=UTC))
        assert plan.is_open(datetime(2026, 7, 15, 13, 30, tzinfo=UTC))
        assert not plan.is_open(datetime(2026, 7, 15, 14, 30, tzinfo=UTC))

    def test_sees_the_change_of_the_clock_ahead(self) -> None:
        plan = Schedule.parse(["09:00-10:00"], "")
        saturday = datetime(2026, 3, 7, 15, 0, tzinfo=UTC)
        assert plan.next_change(saturday) == datetime(2026, 3, 8, 13, 0, tzinfo=UTC)

    def test_loses_the_hour_as_a_named_zone_does(self) -> None:
        begin = datetime(2026, 3, 8, 5, 0, tzinfo=UTC)
        own, named = (Schedule.parse(["22:00-02:30"], zone) for zone in ("", "America/New_York"))
        assert own.next_change(begin) == named.next_change(begin) == datetime(2026, 3, 8, 7, 0, tzinfo=UTC)


CLOCKS = st.tuples(st.integers(0, 23), st.integers(0, 59)).map(lambda clock: f"{clock[0]:02}:{clock[1]:02}")
DAYS = st.sampled_from(["", "mon ", "sat,sun ", "sun ", "fri-mon "])
WINDOWS = st.builds("{}{}-{}".format, DAYS, CLOCKS, CLOCKS).filter(lambda text: text[-11:-6] != text[-5:])
ZONES = st.sampled_from(["Europe/Amsterdam", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"])
CHANGES = st.sampled_from([datetime(2026, month, day, tzinfo=UTC) for month, day in ((3, 8), (3, 29), (4, 5), (10, 3))])


@given(
    st.lists(WINDOWS, min_size=1, max_size=3), ZONES, CHANGES, st.integers(-2 * 24 * 60, 24 * 60), st.integers(0, 999)
)
def test_nothing_changes_before_the_next_change(
    windows: list[str], zone: str, day: datetime, minutes: int, permille: int
) -> None:
    plan = Schedule.parse(windows, zone)
    now = day + timedelta(minutes=minutes)
    change = plan.next_change(now)
    is_open = plan.is_open(now)
    if change is None:
        assert all(plan.is_open(now + timedelta(minutes=17 * step)) == is_open for step in range(700))
        return
    assert change > now
    assert plan.is_open(change) != is_open
    assert plan.is_open(change - timedelta(seconds=1)) == is_open
    assert plan.is_open(now + (change - now) * permille / 1000) == is_open
