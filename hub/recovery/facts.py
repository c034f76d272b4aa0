"""What a request's hash tells others than its hub. They read it with care: that hub may have died in the midst."""

import re
from collections.abc import Mapping

from common.keys import Keys
from common.settings import NAME_PATTERN
from common.streams.dead import is_entry
from common.streams.jobs import LaneName, Ticket
from common.types import HubId, Lane, ModelId, NodeId, RequestId, RequestStatus

Facts = Mapping[str, str]
OVER = frozenset({RequestStatus.DONE, RequestStatus.FAILED, RequestStatus.CANCELLED, RequestStatus.EXPIRED})


def is_stream(facts: Facts) -> bool:
    """Whether its answer is streamed."""
    return facts.get("stream") == "1"


def is_resumable(facts: Facts) -> bool:
    """Whether its client may come back for it."""
    return facts.get("resumable") == "1"


def own_reply(facts: Facts, request: RequestId, keys: Keys) -> str | None:
    """The reply that a request's hash names; None where that is no reply of this request."""
    told = facts.get("reply", "")
    try:
        keys.hub_of(told)
    except ValueError:
        return None
    return told if told.endswith(f"}}:{request}") else None


def reply_of(facts: Facts, request: RequestId, hub: HubId, keys: Keys) -> str:
    """A request's reply, which is about to be deleted: nothing but a reply of this request, whatever the hash says.

    Args:
        facts: its hash.
        request: whose hash it is.
        hub: who looked after it last, for a hash that does not tell.
        keys: how replies are named.
    """
    return own_reply(facts, request, keys) or keys.reply(HubId(facts.get("hub") or hub), request)


def near_of(facts: Facts) -> NodeId | None:
    """The node in whose own lane its job lies, if it does."""
    near = facts.get("near", "")
    return NodeId(near) if re.fullmatch(NAME_PATTERN, near) else None


def ticket_of(facts: Facts) -> Ticket | None:
    """Where its job lies. None: it was written so shortly before its hub died that nobody knows.

    Once that job's reply is gone, whoever claims it drops it, and if nobody does it is withdrawn from its lane.
    """
    entry = facts.get("entry", "")
    try:
        lane = LaneName(Lane(facts["lane"]), ModelId(facts["model"]), near_of(facts))
    except (KeyError, ValueError):
        return None
    return Ticket(lane, entry.encode()) if is_entry(entry) else None
