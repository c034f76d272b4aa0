"""What engine and load generator agree on: what a request asks for, and what an event tells.

The text of each event is ` <number>:<when it was made, ns of the monotonic clock, hexadecimal>`. A gateway that takes
events apart and puts them together again leaves it as it is, so that every event can be told, counted and timed,
whatever else it changes.
"""

import json
import re

MODEL = "bench"
TEXT = re.compile(rb'"content": ?" (\d+):([0-9a-f]+)"')
"""The text in an event, however its JSON is spaced."""
_PACE = re.compile(rb"pace (\d+(?:\.\d+)?) ms")
_TOKENS = re.compile(rb'"max_tokens": ?(\d+)')
_STREAM = re.compile(rb'"stream": ?true')
_USAGE = re.compile(rb'"include_usage": ?true')


def question(*, events: int, pace_ms: float, stream: bool, nth: int) -> bytes:
    """A chat request's body: how many events, and how many ms lie between two; `nth` makes it differ from others."""
    said = f"request {nth}: pace {pace_ms:g} ms"
    body = {"model": MODEL, "messages": [{"role": "user", "content": said}], "max_tokens": events, "stream": stream}
    return json.dumps(body).encode()


def wanted(body: bytes) -> tuple[int, float, bool, bool]:
    """What a request asks for: events, the pause between two (s), whether streamed, whether usage is to be told."""
    tokens, pace = _TOKENS.search(body), _PACE.search(body)
    return (
        int(tokens[1]) if tokens else 1,
        float(pace[1]) / 1000 if pace else 0.0,
        _STREAM.search(body) is not None,
        _USAGE.search(body) is not None,
    )
