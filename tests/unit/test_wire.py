"""The wire: what one side writes the other reads, whatever the bytes; what is no entry of ours is told as such."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import WireError
from common.orders import ControlEntry, Order
from common.succession import Succession
from common.types import ModelId, NodeId, RequestId
from common.wire import (
    LAST_WORD,
    MAX_ATTEMPT,
    OPENING_ID,
    EntryId,
    Failure,
    Job,
    ReplyEntry,
    Start,
    Usage,
)
from tests.unit.strategies import CONTROL_ENTRIES, JOBS, REPLY_ENTRIES, SIGNED_FIELDS, UNKNOWN_FIELDS

JOB = Job(
    id=RequestId("0" * 32),
    attempt=1,
    model=ModelId("tiny:1b"),
    endpoint="/v1/chat/completions",
    stream=True,
    body=b'{"model":"tiny:1b"}',
    reply="ghub:reply:{hub}:0",
    deadline_ms=1_700_000_000_000,
)
TEXT_FIELDS = (b"id", b"model", b"endpoint", b"reply", b"trace", b"sig")
NO_NUMBERS = (b"", b"one", b"1.5", b"1e3", b"0x1", b"\xff", b"1x")


class TestJob:
    @given(JOBS)
    def test_what_was_published_is_what_is_claimed(self, job: Job) -> None:
        assert Job.from_fields(job.to_fields()) == job

    @given(JOBS)
    def test_every_field_is_plain_bytes_under_a_plain_name(self, job: Job) -> None:
        assert all(type(name) is bytes and type(value) is bytes for name, value in job.to_fields().items())

    def test_what_is_signed_and_in_which_order_is_written_down(self) -> None:
        assert tuple(JOB.to_fields()) == (*SIGNED_FIELDS, b"sig")

    def test_the_body_travels_as_it_came(self) -> None:
        body = bytes(range(256)) * 3
        assert replace(JOB, body=body).to_fields()[b"body"] == body

    @given(JOBS, UNKNOWN_FIELDS)
    def test_fields_of_a_later_version_are_passed_over(self, job: Job, later: dict[bytes, bytes]) -> None:
        assert Job.from_fields({**job.to_fields(), **later}) == job

    @pytest.mark.parametrize("name", SIGNED_FIELDS)
    def test_a_missing_field_is_named(self, name: bytes) -> None:
        fields = JOB.to_fields()
        del fields[name]
        with pytest.raises(WireError, match=name.decode()):
            Job.from_fields(fields)

    def test_an_unsigned_job_is_readable_without_the_field(self) -> None:
        fields = JOB.to_fields()
        del fields[b"sig"]
        assert Job.from_fields(fields) == JOB

    @pytest.mark.parametrize("name", [b"attempt", b"deadline"])
    @pytest.mark.parametrize("value", NO_NUMBERS)
    def test_a_number_that_is_none_is_a_wire_error(self, name: bytes, value: bytes) -> None:
        with pytest.raises(WireError):
            Job.from_fields({**JOB.to_fields(), name: value})

    @pytest.mark.parametrize("attempt", [b"0", b"-1", b"18446744073709551616", b"9" * 400])
    def test_an_attempt_that_no_entry_id_can_carry_is_a_wire_error(self, attempt: bytes) -> None:
        """Attempts count from 1; the broker would refuse `-1-0`, and with it the whole pipeline of other jobs."""
        with pytest.raises(WireError):
            Job.from_fields({**JOB.to_fields(), b"attempt": attempt})

    def test_the_last_attempt_that_an_entry_id_can_carry_is_one(self) -> None:
        last = replace(JOB, attempt=MAX_ATTEMPT)
        assert Job.from_fields(last.to_fields()) == last
        with pytest.raises(WireError, match="attempt"):
            Job.from_fields({**JOB.to_fields(), b"attempt": b"%d" % (MAX_ATTEMPT + 1)})

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            (b"attempt", b"01"),
            (b"attempt", b"+1"),
            (b"attempt", b" 1"),
            (b"deadline", b"1_700_000_000_000"),
            (b"stream", b"true"),
            (b"stream", b""),
        ],
    )
    def test_what_a_hub_would_write_otherwise_is_not_its_job(self, name: bytes, value: bytes) -> None:
        """It reads as the same job, and the signature of that would pass for one that nobody signed."""
        with pytest.raises(WireError, match=f"no hub writes so: {name.decode()}$"):
            Job.from_fields({**JOB.to_fields(), name: value})

    def test_each_such_field_is_named(self) -> None:
        with pytest.raises(WireError, match=r"attempt, stream$"):
            Job.from_fields({**JOB.to_fields(), b"attempt": b"01", b"stream": b"yes"})

    @pytest.mark.parametrize("name", TEXT_FIELDS)
    def test_text_that_is_not_utf8_is_a_wire_error(self, name: bytes) -> None:
        with pytest.raises(WireError):
            Job.from_fields({**JOB.to_fields(), name: b"\xff\xfe"})

    @pytest.mark.parametrize("version", [b"", b"0", b"2", b"10", b"v1", b"\xff"])
    def test_another_version_is_refused_by_number(self, version: bytes) -> None:
        with pytest.raises(WireError, match="version"):
            Job.from_fields({**JOB.to_fields(), b"v": version})

    @given(st.dictionaries(st.sampled_from([*SIGNED_FIELDS, b"sig", b"other"]), st.binary(max_size=20)))
    def test_rubbish_is_a_wire_error_and_nothing_else(self, fields: dict[bytes, bytes]) -> None:
        with pytest.raises(WireError):
            Job.from_fields(fields)


class TestReplyEntry:
    @given(REPLY_ENTRIES)
    def test_what_was_said_is_what_is_heard(self, entry: ReplyEntry) -> None:
        assert ReplyEntry.from_fields(entry.to_fields()) == entry

    @given(REPLY_ENTRIES, UNKNOWN_FIELDS)
    def test_it_is_the_same_read_as_the_broker_brings_it(self, entry: ReplyEntry, later: dict[bytes, bytes]) -> None:
        fields = {**entry.to_fields(), **later}
        assert ReplyEntry.read([part for field in fields.items() for part in field]) == entry

    @given(REPLY_ENTRIES, UNKNOWN_FIELDS)
    def test_fields_of_a_later_version_are_passed_over(self, entry: ReplyEntry, later: dict[bytes, bytes]) -> None:
        assert ReplyEntry.from_fields({**entry.to_fields(), **later}) == entry

    @given(st.binary(max_size=50))
    def test_a_plain_token_is_one_field(self, data: bytes) -> None:
        entry = ReplyEntry(data=b"x" + data)
        assert entry.to_fields() == {b"data": b"x" + data}
        assert ReplyEntry.from_fields({b"data": b"x" + data}) == ReplyEntry.read([b"data", b"x" + data]) == entry

    def test_what_holds_one_field_need_not_be_a_plain_token_nor_what_begins_with_data(self) -> None:
        assert ReplyEntry.read([b"release", b"gone"]) == ReplyEntry(release="gone")
        assert ReplyEntry.read([b"data", b"x", b"release", b"gone"]) == ReplyEntry(data=b"x", release="gone")

    def test_the_opening_entry_says_nothing(self) -> None:
        assert ReplyEntry.from_fields({b"open": b"1"}) == ReplyEntry()

    def test_a_short_answer_is_one_entry_in_reading_order(self) -> None:
        entry = ReplyEntry(start=Start(200, "text/plain", NodeId("n")), data=b"hi", end=Usage(1, 2))
        assert list(entry.to_fields()) == [b"start", b"data", b"end"]

    def test_members_of_a_later_version_are_passed_over(self) -> None:
        start = {"status": 200, "content_type": "a/b", "node": "n", "gpu": "H100"}
        entry = ReplyEntry.from_fields({b"start": orjson.dumps(start), b"end": b'{"cached_tokens": 9}'})
        assert entry == ReplyEntry(start=Start(200, "a/b", NodeId("n")), end=Usage())

    @pytest.mark.parametrize("name", [b"start", b"error"])
    @pytest.mark.parametrize("value", [b"", b"{", b"{}", b"[]", b"null", b"7", b'"text"', b"\xff", b'{"status":200}'])
    def test_a_garbled_part_is_a_wire_error(self, name: bytes, value: bytes) -> None:
        with pytest.raises(WireError):
            ReplyEntry.from_fields({name: value})

    @pytest.mark.parametrize("value", [b"", b"{", b"[]", b"null", b"7", b"\xff"])
    def test_a_garbled_end_is_a_wire_error(self, value: bytes) -> None:
        with pytest.raises(WireError):
            ReplyEntry.from_fields({b"end": value})

    @pytest.mark.parametrize("name", [b"", b"n\r\nset-cookie: a=b", b"n n", b"n" * 1000])
    def test_a_claim_by_what_is_no_node_is_a_wire_error(self, name: bytes) -> None:
        """It stands in a header of the answer."""
        with pytest.raises(WireError):
            ReplyEntry.from_fields({b"claim": name})

    @pytest.mark.parametrize("name", [b"claim", b"release"])
    def test_text_that_is_not_utf8_is_a_wire_error(self, name: bytes) -> None:
        with pytest.raises(WireError):
            ReplyEntry.from_fields({name: b"\xff"})

    @pytest.mark.parametrize(
        ("name", "member", "value"),
        [
            (b"start", "status", "200"),
            (b"start", "status", None),
            (b"start", "content_type", 5),
            (b"start", "node", None),
            (b"end", "prompt_tokens", "many"),
            (b"end", "completion_tokens", [1]),
            (b"error", "status", "502"),
            (b"error", "code", 502),
            (b"error", "message", {"text": "x"}),
            (b"error", "retryable", "no"),
            (b"error", "param", 3),
            (b"start", "status", 100),
            (b"start", "status", 199),
            (b"start", "status", 204),
            (b"start", "status", 205),
            (b"start", "status", 304),
            (b"start", "status", 600),
            (b"error", "status", 204),
            (b"error", "status", 399),
            (b"error", "status", 600),
            (b"end", "prompt_tokens", True),
            (b"end", "prompt_tokens", -1),
            (b"end", "completion_tokens", 2**31 + 1),
        ],
    )
    def test_a_member_that_cannot_be_is_a_wire_error(self, name: bytes, member: str, value: object) -> None:
        """Else it breaks the handler that uses it, far from here."""
        parts: dict[bytes, dict[str, Any]] = {
            b"start": {"status": 200, "content_type": "a/b", "node": "n"},
            b"end": {"prompt_tokens": 1, "completion_tokens": 2},
            b"error": {"status": 502, "code": "c", "message": "m", "retryable": True, "type": "t", "param": None},
        }
        good = parts[name]
        assert ReplyEntry.from_fields({name: orjson.dumps(good)}) != ReplyEntry()
        with pytest.raises(WireError):
            ReplyEntry.from_fields({name: orjson.dumps({**good, member: value})})

    @given(
        st.dictionaries(
            st.sampled_from([b"claim", b"start", b"data", b"end", b"error", b"release", b"other"]),
            st.binary(max_size=20),
        )
    )
    def test_rubbish_is_an_entry_or_a_wire_error(self, fields: dict[bytes, bytes]) -> None:
        with suppress(WireError):
            assert isinstance(ReplyEntry.from_fields(fields), ReplyEntry)

    @pytest.mark.parametrize(
        ("entry", "is_data"),
        [
            (ReplyEntry(data=b"x"), True),
            (ReplyEntry(claim=NodeId("n"), data=b"x"), False),
            (ReplyEntry(start=Start(200, "a/b", NodeId("n")), data=b"x"), False),
            (ReplyEntry(data=b"x", end=Usage()), False),
            (ReplyEntry(data=b"x", error=Failure(500, "c", "m")), False),
            (ReplyEntry(data=b"x", release=""), False),
        ],
    )
    def test_only_what_holds_nothing_else_is_but_data(self, entry: ReplyEntry, is_data: object) -> None:
        assert entry.is_data is is_data


class TestControlEntry:
    @given(CONTROL_ENTRIES, UNKNOWN_FIELDS)
    def test_an_order_is_understood_as_given(self, order: ControlEntry, later: dict[bytes, bytes]) -> None:
        assert ControlEntry.from_fields({**order.to_fields(), **later}) == order

    @pytest.mark.parametrize("fields", [{}, {b"op": b""}, {b"op": b"explode"}, {b"op": b"\xff"}, {b"id": b"1"}])
    def test_an_unknown_order_is_a_wire_error(self, fields: dict[bytes, bytes]) -> None:
        with pytest.raises(WireError):
            ControlEntry.from_fields(fields)

    def test_a_garbled_request_is_a_wire_error(self) -> None:
        with pytest.raises(WireError):
            ControlEntry.from_fields({b"op": Order.CANCEL.encode(), b"id": b"\xff"})


class TestEntryId:
    @given(st.integers(0, 2**63), st.integers(0, 2**63))
    def test_reads_what_it_writes(self, attempt: int, n: int) -> None:
        assert EntryId.parse(str(EntryId(attempt, n)).encode()) == EntryId(attempt, n)

    def test_the_ids_of_a_hub_s_own_entries_are_for_ever(self) -> None:
        """A grid is upgraded process by process: all must mean the same by them."""
        assert (OPENING_ID, str(LAST_WORD)) == ("0-1", "2147483648-0")

    def test_compares_by_number_and_attempt_first(self) -> None:
        assert sorted([EntryId(2, 0), EntryId(1, 10), EntryId(1, 9), EntryId(10, 0), EntryId(0, 1)]) == [
            EntryId(0, 1),
            EntryId(1, 9),
            EntryId(1, 10),
            EntryId(2, 0),
            EntryId(10, 0),
        ]


@pytest.mark.parametrize(
    ("ids", "counted", "broken"),
    [
        ("1-0 1-1 1-2", "1-0 1-1 1-2", 0),
        ("1-0 1-1 2-0 2-1", "1-0 1-1 2-0 2-1", 0),
        ("1-0 1-2 1-3", "1-0", 1),
        ("1-1 1-2", "", 1),
        ("1-0 1-2 2-0 2-1 4-0", "1-0 2-0 2-1 4-0", 1),
        ("1-0 2-1 2-2 3-0", "1-0 3-0", 2),
        (f"1-0 1-1 {LAST_WORD}", f"1-0 1-1 {LAST_WORD}", 0),
    ],
)
def test_of_each_attempt_what_stands_before_the_first_gap_counts(ids: str, counted: str, broken: int) -> None:
    succession = Succession()
    read = [EntryId.parse(one.encode()) for one in ids.split()]
    assert [str(one) for one in read if succession.counts(one)] == counted.split()
    assert succession.broken_attempt == broken
