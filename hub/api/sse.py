"""Server-sent events, as far as a hub writes any itself."""

from hub.api.shape import Waiting

EVENT_STREAM = "text/event-stream"
"""Their media type."""


class EventStreams:
    """What APIs have in common that stream server-sent events."""

    stream_type = EVENT_STREAM

    def keep_alive(self, waiting: Waiting) -> bytes:
        """A comment line: clients pass over it, and proxies see that the stream lives."""
        return b": %b\n\n" % waiting.standing.encode()
