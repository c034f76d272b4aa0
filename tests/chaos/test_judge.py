"""The judge finds each token that is lost, doubled, out of order or foreign, and nothing in a sound answer."""

import random

from hypothesis import given
from hypothesis import strategies as st

from bench.chaos.judge import Verdict, judge
from tests.doubles.reading import numbered

counts = st.integers(1, 120)


@st.composite
def runs(draw: st.DrawFn, least: int = 1) -> tuple[int, int]:
    """A count of tokens, and the number of one of them."""
    tokens = draw(st.integers(least, 120))
    return tokens, draw(st.integers(0, tokens - 1))


def text_of(numbers: list[int]) -> str:
    return "".join(f"t{number} " for number in numbers)


@given(counts)
def test_the_engine_s_own_answer_is_clean(tokens: int) -> None:
    assert judge(numbered(0, tokens), tokens, is_finished=True).is_clean


@given(runs())
def test_an_answer_that_ended_early_may_lack_its_end(run: tuple[int, int]) -> None:
    tokens, cut = run
    assert judge(numbered(0, cut), tokens, is_finished=False).is_clean


@given(runs())
def test_a_finished_answer_may_not_lack_its_end(run: tuple[int, int]) -> None:
    tokens, cut = run
    assert judge(numbered(0, cut), tokens, is_finished=True) == Verdict(lost=tokens - cut)


@given(runs(), st.booleans())
def test_one_token_that_is_missing_is_lost(run: tuple[int, int], is_finished: bool) -> None:
    tokens, gone = run
    numbers = [number for number in range(tokens) if number != gone]
    may_be_missing = not is_finished and gone == tokens - 1
    assert judge(text_of(numbers), tokens, is_finished=is_finished) == Verdict(lost=0 if may_be_missing else 1)


@given(runs(), st.data())
def test_a_stretch_that_is_said_again_is_doubled_token_by_token(run: tuple[int, int], data: st.DataObject) -> None:
    tokens, last = run
    again = data.draw(st.integers(0, last))
    text = numbered(0, last + 1) + numbered(again, tokens)
    assert judge(text, tokens, is_finished=True) == Verdict(doubled=last + 1 - again)


@given(runs(least=2), st.data())
def test_two_tokens_that_change_places_are_out_of_order(run: tuple[int, int], data: st.DataObject) -> None:
    tokens, one = run
    other = data.draw(st.integers(0, tokens - 1).filter(lambda number: number != one))
    numbers = list(range(tokens))
    numbers[one], numbers[other] = numbers[other], numbers[one]
    # Whatever stands between the two, and the lower one itself, comes after a higher number.
    assert judge(text_of(numbers), tokens, is_finished=True) == Verdict(disordered=abs(one - other))


@given(counts, st.integers(1, 20))
def test_what_is_said_past_the_end_is_foreign(tokens: int, more: int) -> None:
    assert judge(numbered(0, tokens + more), tokens, is_finished=True) == Verdict(foreign=more)


@given(
    runs(), st.text("tx07 é", min_size=1, max_size=6).filter(lambda text: not text.endswith(" ") and "t" not in text)
)
def test_text_that_is_no_token_is_foreign(run: tuple[int, int], stray: str) -> None:
    tokens, at = run
    text = numbered(0, at) + stray + numbered(at, tokens)
    assert judge(text, tokens, is_finished=True) == Verdict(foreign=1)


@given(runs())
def test_half_a_token_is_lost_and_what_is_left_of_it_is_foreign(run: tuple[int, int]) -> None:
    tokens, cut = run
    text = numbered(0, cut) + "t" + numbered(cut + 1, tokens)
    assert judge(text, tokens, is_finished=True) == Verdict(lost=1, foreign=1)


@given(counts, st.randoms(use_true_random=False))
def test_only_the_engine_s_own_text_is_clean(tokens: int, dice: random.Random) -> None:
    numbers = list(range(tokens))
    dice.shuffle(numbers)
    assert judge(text_of(numbers), tokens, is_finished=True).is_clean == (numbers == sorted(numbers))
