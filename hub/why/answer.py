"""What is said to somebody who asks why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Because:
    """One reason: a code for programs, a sentence for people, and what can be done, where something can."""

    code: str
    text: str
    cure: str = ""

    def shown(self) -> dict[str, str]:
        """As it goes out."""
        told = {"code": self.code, "text": self.text, "cure": self.cure}
        return {name: text for name, text in told.items() if text}


@dataclass(frozen=True, slots=True)
class Why:
    """How something stands, and the reasons."""

    kind: str
    """`request`, `node`, `model` or `key`."""
    summary: str
    reasons: Sequence[Because] = ()

    def shown(self, name: str) -> dict[str, Any]:
        """As it goes out."""
        return {
            "name": name,
            "kind": self.kind,
            "summary": self.summary,
            "reasons": [reason.shown() for reason in self.reasons],
        }


def count_of(number: int, what: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
