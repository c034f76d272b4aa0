"""Counts by outcome, whatever names an engine makes up."""

from provider.telemetry.outcomes import MAX_NAME_CHARS, MOST_NAMES, OTHER, Outcomes


def test_each_is_counted_by_its_name() -> None:
    outcomes = Outcomes()
    for name in ("done", "done", "released"):
        outcomes.note(name)
    assert dict(outcomes) == {"done": 2, "released": 1}


def test_names_without_end_are_counted_as_one() -> None:
    outcomes = Outcomes()
    outcomes.note("done")
    for number in range(10 * MOST_NAMES):
        outcomes.note(f"error-{number}")
    outcomes.note("done")
    assert len(outcomes) == MOST_NAMES + 1
    assert outcomes["done"] == 2
    assert outcomes[OTHER] == 9 * MOST_NAMES + 1


def test_a_name_that_is_a_whole_story_is_not_kept() -> None:
    outcomes = Outcomes()
    outcomes.note("x" * (MAX_NAME_CHARS + 1))
    assert dict(outcomes) == {OTHER: 1}
