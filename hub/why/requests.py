"""Why a request waits, or how it ended."""

from collections.abc import Mapping

from common.records.request_book import number_of
from common.types import RequestStatus
from hub.why.answer import Because, Why, count_of

OVER = {
    RequestStatus.DONE: "was answered",
    RequestStatus.FAILED: "failed",
    RequestStatus.CANCELLED: "was cancelled",
    RequestStatus.EXPIRED: "waited for too long and was given up",
}
"""What is said of requests that have ended."""


def why_over(status: RequestStatus, fields: Mapping[str, str]) -> Why:
    """How a request ended."""
    attempts = f" in attempt {fields['attempt']}" if fields.get("attempt", "1") != "1" else ""
    at = f" by {fields['node']}" if fields.get("node") and status is RequestStatus.DONE else ""
    summary = f"It {OVER[status]}{at}{attempts}."
    code = fields.get("error", "")
    reasons = [Because(code, f"Its client heard the error {code!r}.", "docs/api.md lists the codes")] if code else []
    return Why("request", summary, [*reasons, *_spent(fields)])


def why_running(status: RequestStatus, fields: Mapping[str, str], now_ms: int) -> Why:
    """What a request does that a node has."""
    node, since = fields.get("node", "a node"), _age(fields.get("claimed_at"), now_ms)
    if status is RequestStatus.STREAMING:
        text = Because("streaming", f"{node} has been answering it for {since}.")
        return Why("request", f"It runs at {node}, and its answer is on its way.", [text, *_tried(fields)])
    text = Because(
        "first-token",
        f"{node} took it {since} ago; its engine has said nothing yet: it reads the prompt, or loads the model.",
    )
    return Why("request", f"It runs at {node}, and has no first token yet.", [text, *_tried(fields)])


def why_waiting(fields: Mapping[str, str], now_ms: int, ahead: int | None, of_model: Why) -> Why:
    """Why a request waits in its lane: who goes first, and how its model stands."""
    lane, since = fields.get("lane", "interactive"), _age(fields.get("queued_at"), now_ms)
    first = Because("in-queue", f"{count_of(ahead, 'job')} of its model go first.") if ahead else None
    place = "" if ahead is None else ", next in line" if ahead == 0 else f", {ahead} ahead of it"
    summary = f"It has been waiting for {since} in the lane {lane!r} of {fields.get('model', '?')}{place}."
    aside = [_set_aside(fields["near"])] if fields.get("near") else []
    return Why("request", summary, [*([first] if first else []), *aside, *of_model.reasons, *_tried(fields)])


def _set_aside(node: str) -> Because:
    return Because(
        "set-aside",
        f"For a moment it is set aside for {node}, which knows its conversation or has the model loaded.",
    )


def _spent(fields: Mapping[str, str]) -> list[Because]:
    """How long it took, and what it used."""
    moments = {name: number_of(fields.get(name)) for name in ("queued_at", "claimed_at", "first_data_at", "ended_at")}
    began, ended = moments["queued_at"], moments["ended_at"]
    if began is None or ended is None:
        return []
    steps = (("waited", began, moments["claimed_at"] or ended), ("first word after", began, moments["first_data_at"]))
    told = [f"{what} {max(0, until - since) / 1000:.1f} s" for what, since, until in steps if until is not None]
    times = Because("took", f"It took {max(0, ended - began) / 1000:.1f} s: {', '.join(told)}.")
    prompt, completion = number_of(fields.get("prompt_tokens")), number_of(fields.get("completion_tokens"))
    if prompt is None or completion is None:
        return [times]
    return [times, Because("used", f"It used {count_of(prompt, 'prompt token')} and {completion} of the answer.")]


def _tried(fields: Mapping[str, str]) -> list[Because]:
    attempt = number_of(fields.get("attempt")) or 1
    if attempt == 1:
        return []
    tries = count_of(attempt - 1, "attempt")
    return [Because("tried-again", f"{tries} came to nothing before: a node was lost, gave it back or failed.")]


def _age(at: str | None, now_ms: int) -> str:
    since_ms = number_of(at)
    if since_ms is None:
        return "an unknown time"
    seconds = max(0, now_ms - since_ms) / 1000
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
