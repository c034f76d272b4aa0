"""The chaos run finds what a false hub does wrong: a proof that cannot fail would prove nothing."""

import json
from typing import Any

import pytest

from bench.chaos.client import Course, End, Manner
from bench.chaos.judge import Verdict
from bench.chaos.report import Demands, Row, find_wrongs, row_of, table
from tests.chaos.false_hub import TOKENS, FalseHub, course_at

ALL = tuple(range(TOKENS))


def row(course: Course, demands: Demands | None = None) -> Row:
    made = row_of("planted", [course], [], [])
    find_wrongs(made, demands or Demands())
    return made


async def test_a_true_answer_is_clean() -> None:
    course = await course_at(FalseHub())
    assert (course.end, course.verdict, row(course).wrongs) == (End.FINISHED, Verdict(), [])


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        (ALL[:5] + ALL[6:], Verdict(lost=1)),
        (ALL[:-1], Verdict(lost=1)),
        (ALL[:5] + ALL[4:], Verdict(doubled=1)),
        (ALL + ALL, Verdict(doubled=TOKENS)),
        ((*ALL[:5], 6, 5, *ALL[7:]), Verdict(disordered=1)),
        ((*ALL, TOKENS), Verdict(foreign=1)),
    ],
    ids=["one lost", "the last lost", "one doubled", "all doubled", "two swapped", "one too many"],
)
async def test_tokens_that_are_not_the_engine_s_are_found(numbers: tuple[int, ...], found: Verdict) -> None:
    course = await course_at(FalseHub(numbers))
    made = row(course)
    assert course.verdict == found
    assert made.wrongs
    assert (made.lost, made.doubled, made.disordered, made.foreign) == (
        found.lost,
        found.doubled,
        found.disordered,
        found.foreign,
    )


@pytest.mark.parametrize(
    "how",
    [
        {"done": 0, "reason": False},
        {"done": 0},
        {"reason": False},
        {"done": 2},
        {"aborts_after": 5},
        {"error": {"message": "no code"}, "reason": False},
    ],
    ids=["no end", "no DONE", "no reason", "two DONE", "reset", "an error without a code"],
)
async def test_an_end_that_is_none_is_unclean(how: dict[str, Any]) -> None:
    course = await course_at(FalseHub(**how))
    assert course.end is End.UNCLEAN
    assert row(course).wrongs


async def test_an_error_with_a_code_is_a_clean_end_where_errors_are_allowed() -> None:
    course = await course_at(FalseHub(ALL[:5], reason=False, error={"message": "gone", "code": "node_lost"}))
    assert (course.end, course.why, course.verdict) == (End.CLEAN_ERROR, "node_lost", Verdict())
    assert row(course).wrongs == []
    assert row(course, Demands(errors=0)).wrongs


async def test_a_wrong_count_is_found() -> None:
    assert row(await course_at(FalseHub(counted=TOKENS - 1))).miscounted == 1


async def test_a_plain_client_whose_hub_was_killed_is_cut_off_with_it() -> None:
    course = await course_at(FalseHub(aborts_after=5, is_shown_as_killed=True))
    assert (course.end, course.verdict) == (End.HUB_LOST, Verdict())


async def test_a_resuming_client_goes_on_after_the_last_event_that_it_read() -> None:
    hub = FalseHub(aborts_after=5, is_shown_as_killed=True)
    course = await course_at(hub, Manner.RESUMING)
    assert (course.end, course.verdict, course.resumed, hub.resumed_after) == (End.FINISHED, Verdict(), 1, ["1-4"])


async def test_what_a_hub_repeats_to_a_resuming_client_is_found() -> None:
    hub = FalseHub(aborts_after=5, is_shown_as_killed=True, repeats_on_resume=2)
    assert (await course_at(hub, Manner.RESUMING)).verdict == Verdict(doubled=2)


async def test_an_attaching_client_hears_the_whole_answer_again() -> None:
    course = await course_at(FalseHub(aborts_after=5, is_shown_as_killed=True), Manner.ATTACHING)
    assert (course.end, course.verdict, course.resumed) == (End.FINISHED, Verdict(), 1)


async def test_what_is_left_behind_is_wrong_and_told_in_the_table() -> None:
    made = row_of("planted", [await course_at(FalseHub())], [], ["one reply"])
    find_wrongs(made, Demands())
    assert made.wrongs == ["left behind: one reply"]
    assert table([made]).splitlines()[-1].endswith("| 1 |")
    told = json.loads(json.dumps(made.as_json()))
    assert (told["ends"], told["left_behind"], told["gap"]["max_s"]) == ({"finished": 1}, ["one reply"], 0)
