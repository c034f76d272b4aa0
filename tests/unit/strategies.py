"""Hypothesis strategies for what travels through the broker."""

from hypothesis import strategies as st

from common.orders import ControlEntry, Order
from common.settings import NAME_PATTERN
from common.types import ModelId, NodeId, RequestId
from common.wire import Failure, Job, ReplyEntry, Start, Usage

SIGNED_FIELDS = (b"v", b"id", b"attempt", b"model", b"endpoint", b"stream", b"body", b"reply", b"deadline", b"trace")
"""Of a job, in the order of docs/wire.md."""
TEXTS = st.text(max_size=40)
NAMES = st.text(min_size=1, max_size=40)
STATUSES = st.integers(200, 599).filter(lambda status: status not in (204, 205, 304))
COUNTS = st.none() | st.integers(0, 2**31)

JOBS = st.builds(
    Job,
    id=TEXTS.map(RequestId),
    attempt=st.integers(1, 2**31),
    model=TEXTS.map(ModelId),
    endpoint=TEXTS,
    stream=st.booleans(),
    body=st.binary(max_size=200),
    reply=TEXTS,
    deadline_ms=st.integers(0, 2**53),
    trace=TEXTS,
    sig=TEXTS,
)

REPLY_ENTRIES = st.builds(
    ReplyEntry,
    claim=st.none() | st.from_regex(NAME_PATTERN, fullmatch=True).map(NodeId),
    start=st.none() | st.builds(Start, STATUSES, TEXTS, NAMES.map(NodeId)),
    data=st.binary(max_size=200),
    end=st.none() | st.builds(Usage, COUNTS, COUNTS),
    error=st.none() | st.builds(Failure, st.integers(400, 599), TEXTS, TEXTS, st.booleans(), TEXTS, st.none() | TEXTS),
    release=st.none() | TEXTS,
)

CONTROL_ENTRIES = st.builds(ControlEntry, st.sampled_from(Order), st.none() | NAMES.map(RequestId))

UNKNOWN_FIELDS = st.dictionaries(
    st.binary(min_size=1, max_size=10).map(lambda name: b"x-later-" + name), st.binary(max_size=20), max_size=3
)
"""Fields that a later version might add."""
