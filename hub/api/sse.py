"""Server-sent events, as far as a hub writes any itself."""

EVENT_STREAM = "text/event-stream"
"""Their media type."""


def sse_comment(said: str) -> bytes:
    """A comment line: clients pass over it, and proxies see that the stream lives."""
    return b": %b\n\n" % said.encode()
