"""What a look at one thing that a machine needs has found."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How bad it is. Only `fail` keeps a machine from its work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"
    """It is not needed here."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line for people, and what to do about it."""

    verdict: Verdict
    text: str
    advice: str = ""

    @classmethod
    def ok(cls, text: str) -> "Finding":
        """All is well."""
        return cls(Verdict.OK, text)

    @classmethod
    def warn(cls, text: str, advice: str = "") -> "Finding":
        """It works, and one should know."""
        return cls(Verdict.WARN, text, advice)

    @classmethod
    def fail(cls, text: str, advice: str = "") -> "Finding":
        """It does not work."""
        return cls(Verdict.FAIL, text, advice)

    @classmethod
    def skip(cls, text: str) -> "Finding":
        """There is nothing to look at here, and nothing is missed."""
        return cls(Verdict.SKIP, text)
