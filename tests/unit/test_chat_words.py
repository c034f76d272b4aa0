"""What a conversation shows and understands: words kept whole at the edge, orders, and which model is asked."""

import re
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from ghub.chat.api import ChatApi
from ghub.chat.choice import choose_model
from ghub.chat.conversation import Conversation
from ghub.chat.errors import AnswerFailed
from ghub.chat.orders import orders_that_fit, read_order
from ghub.chat.wrapping import Wrapping
from ghub.showing.printable import printable, printable_lines

BACK = re.compile(r"\x1b\[(\d+)D\x1b\[K")


def painted(text: str, columns: int, *, cut: int = 1) -> list[str]:
    """The lines that stand on a terminal once a text has come in pieces."""
    wrapping = Wrapping(lambda: columns)
    lines = [""]
    for start in range(0, len(text), cut):
        shown = wrapping.feed(text[start : start + cut])
        for part in re.split(r"(\x1b\[\d+D\x1b\[K|\n)", shown):
            if back := BACK.fullmatch(part):
                left = int(back[1])
                while left > 0:
                    left -= cell_len(lines[-1][-1])
                    lines[-1] = lines[-1][:-1]
            elif part == "\n":
                lines.append("")
            else:
                lines[-1] += part
    return lines


def test_words_go_to_the_next_line_whole() -> None:
    assert [line.rstrip() for line in painted("the quick brown fox jumps", 11)] == ["the quick", "brown fox", "jumps"]


def test_what_is_longer_than_a_line_is_broken_and_wide_letters_count_twice() -> None:
    assert painted("abcdefghij", 6) == ["abcde", "fghij"]
    assert painted("a 模型模型", 6) == ["a ", "模型", "模型"]


def test_program_text_is_left_as_it_is() -> None:
    assert painted("```\nx = 1 + 2 + 3\n```\nand so on", 8) == ["```", "x = 1 + 2 + 3", "```", "and so ", "on"]


@given(st.lists(st.text("ab模é", min_size=1, max_size=9), max_size=20), st.integers(12, 30), st.integers(1, 5))
def test_no_line_is_too_long_and_no_word_is_broken_or_lost(words: list[str], columns: int, cut: int) -> None:
    lines = painted(" ".join(words), columns, cut=cut)
    assert all(cell_len(line) < columns for line in lines)
    whole = [word for word in words if cell_len(word) < columns]
    if whole == words:
        assert " ".join(lines).split() == words


def test_what_a_model_says_cannot_move_the_cursor() -> None:
    assert printable_lines("a\x1b[2J\tb\r\nc\rd\u202e👩\u200d💻") == "a?[2J\tb\ncd?👩\u200d💻"
    assert printable("a\nb") == "a?b"


@pytest.mark.parametrize(
    ("line", "order"),
    [
        ("hello", None),
        ("//etc", None),
        ("/model  tiny:1b ", ("change_model", "tiny:1b")),
        ("/clear", ("clear", "")),
        ("/exit", ("quit", "")),
        ("/nope x", ("unknown", "/nope")),
    ],
)
def test_orders_are_told_from_messages(line: str, order: tuple[str, str] | None) -> None:
    assert read_order(line) == order


def test_orders_and_models_are_completed() -> None:
    assert orders_that_fit("/mo", ["tiny:1b"]) == ["/model", "/models", "/model tiny:1b"]
    assert orders_that_fit("mo", ["mo"]) == []


def test_a_question_carries_what_was_said_and_no_wish_that_was_not_made() -> None:
    talk = Conversation("m", system="be brief", temperature=0.0)
    talk.remember("a", "b")
    assert talk.question("c") == {
        "model": "m",
        "temperature": 0.0,
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ],
    }
    talk.clear()
    assert len(talk.question("c")["messages"]) == 2


class Offer:
    """A hub that serves these models."""

    url = "http://hub"

    def __init__(self, models: list[str], loaded: list[str]) -> None:
        self._models, self._loaded = models, loaded

    def models(self) -> list[str]:
        return self._models

    def loaded(self) -> list[str]:
        return self._loaded


def choice(models: list[str], loaded: list[str], wanted: str | None = None) -> tuple[str, str]:
    return choose_model(cast("ChatApi", Offer(models, loaded)), wanted)


def test_which_model_is_asked_is_said_unless_it_was_named() -> None:
    assert choice(["a", "b"], ["b"], "c") == ("c", "")
    assert choice(["a"], []) == ("a", "asking a, the only model")
    model, said = choice(["a", "b"], ["x", "b"])
    assert (model, "which is loaded" in said) == ("b", True)
    model, said = choice(["a", "b"], [])
    assert (model, "the first of 2" in said) == ("a", True)
    with pytest.raises(AnswerFailed, match="serves no model"):
        choice([], [])
