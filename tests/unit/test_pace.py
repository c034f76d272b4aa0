"""How long a place in a queue takes, from how the queue has moved."""

from common.types import ModelId
from hub.requests.pace import LATELY_S, Pace

MODEL, OTHER = ModelId("tiny:1b"), ModelId("other:1b")


class Clock:
    """A clock that stands where it is put."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_step_takes_as_long_as_the_places_took_on_average() -> None:
    pace = Pace(Clock())
    pace.moved(MODEL, 4, 8.0)
    assert pace.step_s(MODEL) == 2.0


def test_times_without_a_move_count_too() -> None:
    pace = Pace(Clock())
    pace.moved(MODEL, 2, 2.0)
    pace.moved(MODEL, 0, 2.0)
    assert pace.step_s(MODEL) == 2.0


def test_nothing_is_said_where_nothing_has_moved() -> None:
    pace = Pace(Clock())
    assert pace.step_s(MODEL) is None
    pace.moved(MODEL, 0, 2.0)
    assert pace.step_s(MODEL) is None


def test_of_another_model_s_queue_it_says_nothing() -> None:
    pace = Pace(Clock())
    pace.moved(MODEL, 2, 2.0)
    assert pace.step_s(OTHER) is None


def test_what_is_long_past_is_forgotten() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.moved(MODEL, 2, 2.0)
    clock.now_s = LATELY_S + 1
    assert pace.step_s(MODEL) is None
