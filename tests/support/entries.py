"""What tests say of reply entries."""

from common.wire import ReplyEntry


def is_last(entry: ReplyEntry) -> bool:
    """Whether an attempt is over with this entry."""
    return entry.end is not None or entry.error is not None or entry.release is not None
