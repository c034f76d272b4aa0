"""What a run comes to, and plans that can be carried out."""

import random
from array import array
from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bench.chaos.client import Ask, Course, End, Manner
from bench.chaos.faults import Action, Fault, Part, Strike
from bench.chaos.report import Demands, Row, Spread, find_wrongs, row_of
from bench.chaos.scenarios import ALL, BY_NAME

KILL = Fault(2, Part.PROVIDER, Action.KILL)


def course(*times_s: float, manner: Manner = Manner.PLAIN, end: End = End.FINISHED) -> Course:
    made = Course(Ask(0, manner, tokens=3, gap_ms=0), end=end)
    made.heard.times_s = array("d", times_s)
    return made


def test_a_gap_is_the_longest_silence_and_a_requeue_ends_the_one_that_the_fault_made() -> None:
    hit = course(0, 1, 5, 6)
    row = row_of("kill", [hit, course(0, 100)], [Strike(KILL, 2, [hit])], [])
    assert (row.gap, row.requeue, row.victims) == (Spread(4, 4, 4), Spread(3, 3, 3), 1)


def test_clients_that_are_slow_or_hear_an_answer_again_are_not_timed() -> None:
    hit = [course(0, 9, manner=manner) for manner in (Manner.SLOW, Manner.ATTACHING)]
    assert row_of("kill", hit, [Strike(KILL, 2, hit)], []).gap == Spread()


def test_what_is_demanded_and_not_so_is_wrong() -> None:
    row = Row("kill", 2, Counter({End.CLEAN_ERROR: 1, End.HUB_LOST: 1}), gap=Spread(1, 4, 4), freed_s=6, generations=3)
    find_wrongs(row, Demands(errors=0, gap_p99_s=3, freed_s=5, generations=2, dead=1))
    assert len(row.wrongs) == 5
    row.wrongs.clear()
    find_wrongs(row, Demands(errors=1, gap_p99_s=4, freed_s=6, generations=3))
    assert row.wrongs == []


def test_engines_that_never_came_free_are_wrong() -> None:
    row = Row("hub", 1, Counter({End.HUB_LOST: 1}))
    find_wrongs(row, Demands(freed_s=5))
    assert row.wrongs


@given(st.integers(0, 2**32), st.floats(60, 1200))
def test_a_random_plan_is_its_seed_s_and_hits_nothing_that_is_still_down(seed: int, length_s: float) -> None:
    draw = BY_NAME["random"].plan
    plan = draw(random.Random(seed), length_s)
    assert plan == draw(random.Random(seed), length_s)
    assert plan
    for part, nth in {(fault.part, fault.nth) for fault in plan}:
        of_one = sorted((f for f in plan if (f.part, f.nth) == (part, nth)), key=lambda fault: fault.at_s)
        assert all(a.at_s + a.lasts_s < b.at_s for a, b in pairwise(of_one))


def test_every_scenario_has_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(ALL)
