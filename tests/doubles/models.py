"""What the command line of a test engine says: its models, and what it lacks."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Self

import orjson


@dataclass(frozen=True, slots=True)
class Model:
    """A model on a test engine's disk."""

    name: str
    size_bytes: int = 0
    """Of its weights; 0: some size that follows from its name."""
    digest: str = ""
    """64 hex digits; empty: what follows from its name."""
    is_loaded: bool = False
    """Whether it is in memory from the start, where the engine tells such things."""

    def __post_init__(self) -> None:
        hashed = hashlib.sha256(self.name.encode()).hexdigest()
        object.__setattr__(self, "digest", self.digest or hashed)
        object.__setattr__(self, "size_bytes", self.size_bytes or 10**9 + int(hashed[:6], 16))

    @classmethod
    def read(cls, text: str) -> Self:
        """From a word of the command line: a bare name, or a JSON object of the fields."""
        return cls(**orjson.loads(text)) if text.startswith('{"') else cls(text)

    def word(self) -> str:
        """The word of the command line that `read` understands."""
        return orjson.dumps(asdict(self)).decode()


@dataclass(frozen=True, slots=True)
class Options:
    """How one test engine was started."""

    models: Sequence[Model]
    slots: int | None = None
    """Generations that run at once; more wait in line."""
    api_key: str | None = None
    """Requests without this Bearer key are refused."""
    version: str = ""
    """What it calls itself; empty: the version that its double was written after."""
    lacks: frozenset[str] = field(default_factory=frozenset)
    """Paths that it does not serve: an older version, or one started without them."""
