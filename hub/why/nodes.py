"""Why a node does, or does not, take work."""

from collections.abc import Iterator, Mapping

from common.reasons import NO_FREE_SLOT, words_of
from common.records.grid import NodeRecord
from common.streams.jobs import LaneName
from common.streams.queues import LaneLoad
from common.types import ModelId
from hub.why.answer import Because, Why, count_of


def because_of(node: NodeRecord) -> Iterator[Because]:
    """What keeps a node from taking a job now; nothing if it would take one."""
    for code in node.reasons:
        words = words_of(code, node.node)
        yield Because(code, f"{node.node} {words.text}.", words.cure)
    if not node.reasons and is_full(node):
        yield Because(NO_FREE_SLOT, f"{node.node} runs {len(node.requests)} of {node.slots} at once.")


def is_full(node: NodeRecord) -> bool:
    """Whether it has no free slot."""
    return len(node.requests) >= node.slots


def why_node(node: NodeRecord, loads: Mapping[LaneName, LaneLoad]) -> Why:
    """How a live node stands. `loads`: of the lanes of its models."""
    name, runs = node.node, count_of(len(node.requests), "request")
    reasons = [*because_of(node)]
    if reasons:
        return Why("node", f"{name} takes no work now; it runs {runs}.", reasons)
    if not node.models:
        none = Because("no-models", "Its engine has no model.", "pull one there, e.g. ollama pull llama3.2")
        return Why("node", f"{name} is there, and there is nothing that it could do.", [none])
    waiting: dict[ModelId, int] = {}
    for lane, load in loads.items():
        waiting[lane.model] = waiting.get(lane.model, 0) + load.waiting
    total = sum(waiting.values())
    slots = f"{runs} of {count_of(node.slots, 'slot')}"
    if total == 0:
        idle = Because("nothing-waits", f"No job waits for {_any_of(node)}.")
        return Why("node", f"{name} would take a job at once; it runs {slots}.", [idle])
    jobs = Because("takes-work", f"{count_of(total, 'job')} for its models lie in their lanes.")
    return Why("node", f"{name} takes work; it runs {slots}.", [jobs])


def why_absent(name: str, seen_s: float | None, *, is_revoked: bool) -> Why:
    """How a node stands that is not in the grid; `seen_s`: since when, where it reported."""
    ago = "" if seen_s is None else f" It last reported {_ago(seen_s)}."
    if is_revoked:
        words = words_of("revoked", name)
        return Why(
            "node", f"{name} is not in the grid.{ago}", [Because("revoked", f"{name} {words.text}.", words.cure)]
        )
    gone = Because(
        "node-gone",
        f"{name} has not renewed its entry: its provider stopped, or cannot reach the broker.",
        "on that machine: ghub provider --check, and the provider's log",
    )
    return Why("node", f"{name} is not in the grid.{ago}", [gone])


def _any_of(node: NodeRecord) -> str:
    models = [str(model) for model in node.models]
    return models[0] if len(models) == 1 else f"any of its {len(models)} models"


def _ago(seconds: float) -> str:
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return f"{count_of(int(seconds // length), unit)} ago"
    return f"{count_of(int(seconds), 'second')} ago"
