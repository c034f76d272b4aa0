"""Why a model does, or does not, answer."""

from collections.abc import Collection, Sequence
from difflib import get_close_matches

from common.records.grid import NodeRecord
from common.streams.queues import LaneLoad
from common.types import ModelId
from hub.why.answer import Because, Why, count_of
from hub.why.nodes import because_of

MOST_NODES = 20
"""So many nodes are spoken of one by one."""


def why_model(model: ModelId, asked: str, nodes: Sequence[NodeRecord], load: LaneLoad, most_waiting: int) -> Why:
    """How a model stands that is, or was, served.

    Args:
        model: its name.
        asked: what was asked for, an alias perhaps.
        nodes: those that serve it.
        load: of all its lanes.
        most_waiting: jobs of one model that may wait.
    """
    name = model if asked == model else f"{asked} ({model})"
    full = Because("queue-full", f"{load.waiting} requests wait, and no more may: the next one hears 429.")
    reasons = [full] if load.waiting >= most_waiting else []
    if not nodes:
        none = Because(
            "no-node", "It was served before, and no live node serves it now.", "start a provider that has it"
        )
        return Why("model", f"No node serves {name} now; {_waits(load)}.", [*reasons, none])
    free = [node for node in nodes if not [*because_of(node)]]
    if free:
        ready = Because("ready", f"{_names(free)} would take a job at once.")
        return Why("model", f"{name} answers: {len(free)} of {count_of(len(nodes), 'node')} free.", [*reasons, ready])
    at_work = [node for node in nodes if not node.reasons]
    if at_work:
        slots = sum(node.slots for node in at_work)
        busy = Because(
            "all-busy",
            f"All {count_of(slots, 'slot')} of {_names(at_work)} are taken; {_waits(load)}.",
            "another machine that serves it, or more slots, would help",
        )
        reasons.append(busy)
    reasons += [because for node in nodes[:MOST_NODES] if node.reasons for because in because_of(node)]
    summary = "all that take work are busy" if at_work else "none of them takes work now"
    return Why("model", f"{name} is served by {count_of(len(nodes), 'node')}, and {summary}.", reasons)


def why_unknown(asked: str, known: Collection[str]) -> Why:
    """What is said of a name that is nothing's."""
    close = get_close_matches(asked, known, n=3, cutoff=0.6)
    cure = f"did you mean {' or '.join(close)}?" if close else "ghub models shows what is served"
    none = Because("no-such-model", f"No node has served a model {asked!r}, and no node or key has this name.", cure)
    return Why("model", f"There is no model {asked!r}.", [none])


def _waits(load: LaneLoad) -> str:
    return "nothing waits" if not load.waiting else f"{count_of(load.waiting, 'request')} wait"


def _names(nodes: Sequence[NodeRecord]) -> str:
    shown = ", ".join(str(node.node) for node in nodes[:5])
    return shown if len(nodes) <= 5 else f"{shown} and {len(nodes) - 5} more"
