"""What hashes and streams look like on a line, and as arguments."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from common.broker.errors import raise_first
from common.broker.line import Answer, Line

Fields = Mapping[bytes, bytes]
_HIGHEST_ID = f"{2**64 - 1}-{2**64 - 1}".encode()


def entries_of(answer: Answer) -> Iterator[tuple[bytes, Iterator[tuple[bytes, Fields | None]]]]:
    """(key, entries) of an XREAD or XREADGROUP answer as a line brings it: nil, or pairs of lists."""
    for key, entries in answer or ():
        yield key, ((entry_id, fields_of(flat)) for entry_id, flat in entries)


def fields_of(flat: Sequence[bytes] | None) -> Fields | None:
    """Fields of an entry as a script returns it: name, value, name, value …; None where the entry was trimmed away."""
    if not flat:
        return None
    return dict(zip(flat[::2], flat[1::2], strict=True))


def flat(fields: Fields) -> list[bytes]:
    """Fields as the arguments of XADD."""
    return [part for pair in fields.items() for part in pair]


async def hashes_of(line: Line, keys: Sequence[str]) -> list[Fields]:
    """The hashes under these keys, in this order; empty for one that is not there. redis-py's errors come through."""
    answers = await line.ask([("HGETALL", key) for key in keys]) if keys else []
    raise_first(answers)
    return [fields_of(answer) or {} for answer in answers]


async def is_used_up(commands: Redis, key: str) -> bool:
    """Whether a stream takes no more entries, because somebody added one under the highest id there is."""
    told: Any = await commands.xinfo_stream(key)
    return bool(told["last-generated-id"] == _HIGHEST_ID)
