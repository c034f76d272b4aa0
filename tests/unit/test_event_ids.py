"""Every event of a stream gets a name of its own, and behind each of them the rest is exactly the rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.wire import EntryId
from hub.api.event_ids import EventIds, events_of
from hub.errors import InvalidRequest
from hub.resume.position import Position

FIRST, SECOND = EntryId(1, 1), EntryId(1, 2)
EVENTS = st.lists(
    st.sampled_from(
        [
            b"data: a\n\n",
            b": comment\n\n",
            b"event: x\ndata: b\n\n",
            b"data: c\r\n\r\n",
            b"data: d\r\r",
            b"data: {}\n\n",
        ]
    ),
    min_size=1,
    max_size=8,
)


def test_events_are_counted_within_their_entry_and_comments_are_not() -> None:
    data = b": queued\n\ndata: a\n\n: still\n\nevent: b\ndata: c\n\n"
    told = EventIds().write(EntryId(2, 57), data)
    assert told == b": queued\n\nid: 2-57.1\ndata: a\n\n: still\n\nid: 2-57.2\nevent: b\ndata: c\n\n"


def test_an_id_that_an_engine_gave_itself_gives_way() -> None:
    told = EventIds().write(FIRST, b"id: 7\ndata: a\n\ndata: b\nid\n\ndata: id: 1\n\nidle: 1\ndata: c\n\n")
    ids = [line for line in told.splitlines() if line.startswith(b"id")]
    assert ids == [b"id: 1-1.1", b"id: 1-1.2", b"id: 1-1.3", b"id: 1-1.4", b"idle: 1"]
    assert b"data: id: 1\n" in told


def test_the_last_event_may_lack_its_end() -> None:
    assert EventIds().write(FIRST, b"data: a\n\ndata: [DONE]") == b"id: 1-1.1\ndata: a\n\nid: 1-1.2\ndata: [DONE]"


@given(st.lists(EVENTS, min_size=1, max_size=4))
def test_behind_any_event_comes_what_came_behind_it_at_first(entries: list[list[bytes]]) -> None:
    told = [(EntryId(1, n), b"".join(events)) for n, events in enumerate(entries)]
    ids = EventIds()
    whole = b"".join(ids.write(*one) for one in told)
    at = 0
    for block in events_of(whole):
        at += len(block)
        if not block.startswith(b"id: "):
            continue
        last = Position.parse("1-" + block.split(b"\n")[0].partition(b"-")[2].decode())
        rest = EventIds(last)
        assert b"".join(rest.write(*one) for one in told) == whole[at:]
        rest.check_found()


@given(EVENTS)
def test_nothing_but_ids_is_added(events: list[bytes]) -> None:
    data = b"".join(events)
    told = EventIds().write(FIRST, data)
    kept = [line for line in told.splitlines(keepends=True) if not line.startswith(b"id: ")]
    assert b"".join(kept) == data


@pytest.mark.parametrize("event", [3, 99])
def test_an_event_that_its_entry_does_not_have_is_not_passed_over(event: int) -> None:
    with pytest.raises(InvalidRequest, match="no event"):
        EventIds(Position(FIRST, event)).write(FIRST, b"data: a\n\ndata: b\n\n")


def test_an_entry_that_never_comes_is_missed() -> None:
    ids = EventIds(Position(FIRST, 1))
    with pytest.raises(InvalidRequest, match=r"no event 1-1\.1"):
        ids.write(SECOND, b"data: a\n\n")
    with pytest.raises(InvalidRequest, match="no event"):
        EventIds(Position(SECOND, 1)).check_found()


@pytest.mark.parametrize("said", ["1-57.3", "2147483648-0.1", "12-1.1"])
def test_a_position_reads_as_it_was_written(said: str) -> None:
    assert str(Position.parse(said)) == said


@pytest.mark.parametrize(
    "said",
    ["", "1", "1-", "1-1.", "1-1.0", "0-1.1", "01-1.1", "1-01.1", "1-1.1 ", "\u0661-1.1", "9999999999-1.1", "a" * 9999],
)
def test_nothing_else_is_a_position(said: str) -> None:
    with pytest.raises(InvalidRequest):
        Position.parse(said)
