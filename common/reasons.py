"""Why a node takes no work, in words. The codes are in the registry; dashboard, command line and `why` say the same."""

from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """Why a provider takes no work."""

    DRAINING = "draining"
    ENGINE_DOWN = "engine-down"
    GPU_BUSY = "gpu-busy"
    """Somebody else than our engine uses the GPU."""
    GPU_MEMORY = "gpu-memory"
    """No model fits into the GPU memory that is free."""
    GPU_UNKNOWN = "gpu-unknown"
    """Nobody can tell how busy the GPU is (yet), and it is not to be taken for idle."""
    OUTSIDE_SCHEDULE = "outside-schedule"
    PAUSED = "paused"
    REVOKED = "revoked"
    """The hub no longer takes this provider's token."""


NO_FREE_SLOT = "no-free-slot"
"""What stands beside these where the gate is open but everything is taken."""


class Words(NamedTuple):
    """A reason for people."""

    short: str
    """For a column of a table."""
    text: str
    """The end of a sentence that begins with the node's name."""
    cure: str
    """What can be done about it; `NODE` stands for its name."""


WORDS: dict[Reason, Words] = {
    Reason.DRAINING: Words(
        "finishing what runs",
        "is draining: it finishes what it runs and takes nothing new",
        "ghub nodes resume NODE takes that back",
    ),
    Reason.ENGINE_DOWN: Words(
        "engine does not answer",
        "does not reach its inference engine",
        "start the engine there; ghub provider --check says what is missing",
    ),
    Reason.GPU_BUSY: Words(
        "GPU in use by its owner",
        "leaves its GPU to its owner, who uses it",
        "it takes work again by itself once the GPU is idle",
    ),
    Reason.GPU_MEMORY: Words(
        "no GPU memory for a model",
        "has too little free GPU memory for any of its models",
        "free memory there, or serve a smaller model",
    ),
    Reason.GPU_UNKNOWN: Words(
        "no telling how busy the GPU is",
        "cannot tell how busy its GPU is, and is not to guess",
        "gate.unknown: assume-idle in its file lets it work all the same",
    ),
    Reason.OUTSIDE_SCHEDULE: Words(
        "outside its hours",
        "works only in its hours, and it is outside them",
        "schedule.windows in its file says which they are",
    ),
    Reason.PAUSED: Words(
        "paused", "is paused", "ghub nodes resume NODE, or ghub resume on that machine if its owner paused it"
    ),
    Reason.REVOKED: Words(
        "token revoked", "is cut off: its token is not accepted any more", "give it a new token: ghub token create NAME"
    ),
}


def words_of(code: str, node: str) -> Words:
    """What is said of a node that gives this reason; of one that a later version knows, its code."""
    try:
        words = WORDS[Reason(code)]
    except ValueError:
        return Words(code, f"takes no work: {code}", "")
    return words._replace(cure=words.cure.replace("NODE", node))


def short_words_of(code: str) -> str:
    """A reason as a column of a table shows it; one that a later version knows as it came."""
    if code == NO_FREE_SLOT:
        return "all slots taken"
    return words_of(code, "").short
