"""What a reply amounts to for those who read along: of streams all attempts, of whole answers the last one."""

from common.succession import LoggedEntry
from common.types import NodeId
from common.wire import LAST_WORD, EntryId, Failure, ReplyEntry, Start, Usage
from hub.relay.retelling import Retelling

A, B = NodeId("a"), NodeId("b")
END = ReplyEntry(end=Usage(1, 3))


def start(node: NodeId, after: str = "") -> Start:
    return Start(200, "text/event-stream", node, after)


def said(attempt: int, *entries: ReplyEntry) -> list[LoggedEntry]:
    """An attempt from its beginning."""
    return [(EntryId(attempt, n), entry) for n, entry in enumerate(entries)]


def data(text: bytes) -> ReplyEntry:
    return ReplyEntry(data=text)


def test_a_stream_goes_on_where_its_last_attempt_ended() -> None:
    told = Retelling(is_stream=True)
    first = said(
        1, ReplyEntry(claim=A), ReplyEntry(start=start(A), data=b"one "), data(b"two "), ReplyEntry(release="x")
    )
    second = said(2, ReplyEntry(claim=B), ReplyEntry(start=start(B, "1-2"), data=b"three"), END)
    assert told.read_on(first) == [(EntryId(1, 1), b"one "), (EntryId(1, 2), b"two ")]
    assert not told.is_over
    assert told.read_on(second) == [(EntryId(2, 1), b"three")]
    assert (told.is_over, told.usage, told.failure) == (True, Usage(1, 3), None)
    assert (told.node, told.attempt, told.start) == (B, 2, start(A))


def test_an_attempt_that_goes_on_elsewhere_is_not_heard_and_ends_nothing() -> None:
    told = Retelling(is_stream=True)
    told.read_on(said(1, ReplyEntry(claim=A), ReplyEntry(start=start(A), data=b"one ")))
    for attempt, after in ((2, ""), (3, "1-0")):
        wrong = ReplyEntry(start=start(B, after), data=b"one two", end=Usage(1, 2))
        assert told.read_on(said(attempt, ReplyEntry(claim=B), wrong)) == []
        assert not told.is_over
    right = ReplyEntry(start=start(B, "1-1"), data=b"two")
    assert told.read_on(said(4, ReplyEntry(claim=B), right)) == [(EntryId(4, 1), b"two")]


def test_an_attempt_that_failed_before_it_said_anything_leaves_a_fresh_beginning() -> None:
    told = Retelling(is_stream=True)
    failed = ReplyEntry(error=Failure(502, "engine_failed", "broke", retryable=True))
    assert told.read_on(said(1, ReplyEntry(claim=A), failed)) == []
    assert not told.is_over
    second = said(2, ReplyEntry(claim=B), ReplyEntry(start=start(B), data=b"one"))
    assert told.read_on(second) == [(EntryId(2, 1), b"one")]


def test_a_whole_answer_is_its_last_attempt_s() -> None:
    told = Retelling(is_stream=False)
    told.read_on(said(1, ReplyEntry(claim=A), ReplyEntry(start=start(A), data=b"half of")))
    told.read_on(said(2, ReplyEntry(claim=B)))
    assert (told.size_bytes, told.start) == (0, None)
    told = Retelling(is_stream=False)
    told.read_on(said(2, ReplyEntry(claim=B), ReplyEntry(start=start(B), data=b"the "), data(b"whole"), END))
    assert (told.start, told.size_bytes) == (start(B), 9)
    assert (told.take(), told.take(), told.size_bytes) == (b"the whole", b"", 0)


def test_it_is_known_whether_anything_was_ever_said() -> None:
    """Whoever said nothing costs nothing, and may be asked anew."""
    for is_stream in (True, False):
        told = Retelling(is_stream=is_stream)
        told.read_on(said(1, ReplyEntry(claim=A), ReplyEntry(start=start(A)), ReplyEntry(release="x")))
        assert not told.has_data
        told.read_on(said(2, ReplyEntry(claim=B), ReplyEntry(start=start(B), data=b"x")))
        assert told.has_data
        assert told.has_begun is is_stream, "a whole answer can always begin anew"


def test_a_whole_answer_goes_on_being_gathered_after_a_part_was_taken() -> None:
    told = Retelling(is_stream=False)
    assert (told.size_bytes, told.take(), told.attempt, told.node) == (0, b"", 1, None)
    told.read_on(said(1, ReplyEntry(claim=A), ReplyEntry(start=start(A), data=b"one ")))
    assert told.take() == b"one "
    told.read_on([(EntryId(1, 2), data(b"two")), (EntryId(1, 3), END)])
    assert (told.size_bytes, told.take(), told.is_over) == (3, b"two", True)


def test_what_a_stream_brings_beside_the_retelling_is_gone_on_after() -> None:
    """Most of a stream passes untold, as bytes: only where it came to is noted."""
    told = Retelling(is_stream=True)
    told.read_on(said(1, ReplyEntry(claim=A), ReplyEntry(start=start(A), data=b"one ")))
    told.flow(EntryId(1, 9))
    assert told.last_data == "1-9"
    right = ReplyEntry(start=start(B, "1-9"), data=b"two")
    assert told.read_on(said(2, ReplyEntry(claim=B), right)) == [(EntryId(2, 1), b"two")]


def test_after_a_last_word_nothing_counts() -> None:
    cancelled = Failure(410, "cancelled_by_client", "over")
    told = Retelling(is_stream=True)
    late = said(1, ReplyEntry(claim=A), data(b"late"))
    assert told.read_on([(LAST_WORD, ReplyEntry(error=cancelled)), *late]) == []
    assert (told.is_over, told.failure) == (True, cancelled)
