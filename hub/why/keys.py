"""Why a client key's requests wait or are refused."""

from collections.abc import Iterator

from common.records.credentials import ClientKey
from common.records.limit_looks import KeyStanding
from hub.why.answer import Because, Why, count_of

FAIR_CURE = "others' requests are not held up by one key; it moves on as nodes claim"


def why_key(key: ClientKey, standing: KeyStanding, now_ms: int) -> Why:
    """How a client key stands."""
    reasons = [*_because_of(key, standing, now_ms)]
    summary = f"The key {key.name} has {count_of(standing.turns, 'request')} on the way and {standing.waiting} waiting"
    if not reasons:
        return Why("key", f"{summary}; none of its limits is reached.")
    return Why("key", f"{summary}; it is at a limit.", reasons)


def because_of_turn(key: ClientKey | None, standing: KeyStanding | None, ahead: int) -> Because:
    """Why a request waits for its turn among those of its own key."""
    before = "it is the next one" if ahead == 0 else f"{count_of(ahead, 'request')} of the same key go first"
    if key is None or standing is None:
        return Because("key-limit", f"It waits for its turn among the requests of its key; {before}.")
    if key.concurrency is not None and standing.turns >= key.concurrency:
        limit = f"The key {key.name} may have {count_of(key.concurrency, 'request')} at once, and has them"
        return Because("key-limit", f"{limit}; {before}.", "wait, or give the key a higher concurrency")
    share = f"The key {key.name} has as many unclaimed jobs in its lane as one key may"
    return Because("key-share", f"{share}; {before}.", FAIR_CURE)


def _because_of(key: ClientKey, standing: KeyStanding, now_ms: int) -> Iterator[Because]:
    if key.is_expired(now_ms):
        yield Because("expired", "It has expired.", "ghub key create makes another one")
    if key.concurrency is not None and standing.turns >= key.concurrency:
        text = f"It may have {count_of(key.concurrency, 'request')} at once, and has them; {standing.waiting} wait."
        yield Because("key-limit", text, "wait, or give the key a higher concurrency")
    for left, limit, what in (
        (standing.requests_left, key.rpm, "request"),
        (standing.tokens_left, key.tpm, "token"),
    ):
        if limit is not None and left is not None and left <= 0:
            text = f"Its {count_of(limit, what)} a minute are used up: requests hear 429 with the time to wait."
            yield Because("key-limit", text, f"wait, or give the key more {what}s a minute")
