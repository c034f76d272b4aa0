"""What is told of a request's tokens when its turn is over."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from common.records.limits import UNKNOWN_TOKENS
from common.streams.jobs import LaneName
from common.types import Lane, ModelId
from common.wire import Usage
from hub.requests.backstage import Backstage
from hub.requests.place import Place
from hub.requests.turns import Turn


@dataclass
class Turns:
    """Keeps with how many tokens turns ended."""

    told: list[int] = field(default_factory=list)

    def end(self, _turn: Turn, tokens: int) -> None:
        self.told.append(tokens)


@dataclass
class Stage:
    turns: Turns = field(default_factory=Turns)


class Inbox:
    """One that nobody wakes."""

    def poke(self) -> None: ...


@pytest.mark.parametrize(
    ("usage", "is_free", "tokens"),
    [
        (Usage(7, 3), False, 10),
        (Usage(7, None), False, 7),
        (Usage(None, 3), False, 3),
        (Usage(7, 3), True, 10),
        (Usage(None, None), False, UNKNOWN_TOKENS),
        (Usage(None, None), True, 0),
        (None, False, UNKNOWN_TOKENS),
        (None, True, 0),
    ],
)
def test_a_turn_ends_with_what_its_engine_counted(usage: Usage | None, tokens: int, *, is_free: bool) -> None:
    stage, key = Stage(), cast("Any", None)
    turn = Turn(key, key, LaneName(Lane.INTERACTIVE, ModelId("m")), 100)
    place = Place(turn.lane, cast("Any", Inbox()), turn, cast("Backstage", stage))
    place.leave(usage, is_free=is_free)
    assert stage.turns.told == [tokens]
