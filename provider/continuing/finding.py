"""Reads what earlier attempts said of an answer, and whether it can be gone on with."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from common.types import NodeId
from common.wire import EntryId, Job, ReplyEntry
from provider.continuing.begun import Begun
from provider.continuing.events import EventForm
from provider.continuing.lines import LineForm
from provider.continuing.obstacles import Obstacle, cannot_continue
from provider.continuing.requests import find_obstacle, lower_limits
from provider.continuing.seam import Form, Seam
from provider.protocol.engine import Question, Said

_FORMS: Mapping[str, Form] = {
    "/v1/chat/completions": EventForm(is_chat=True),
    "/v1/completions": EventForm(is_chat=False),
    "/api/chat": LineForm(is_chat=True),
    "/api/generate": LineForm(is_chat=False),
}
"""The APIs whose answers can be gone on with."""
_THOUGHT = "<think>"
"""How models open their reasoning, where their engine leaves it in the text."""
_UNFINISHED = frozenset({Obstacle.SEVERAL, Obstacle.PROMPTS, Obstacle.FORM})
"""With these, a reason to end does not mean that all was said."""


def find_seam(job: Job, node: NodeId, before: Sequence[tuple[EntryId, ReplyEntry]]) -> Seam | None:
    """Where this attempt goes on; None: it begins afresh, since nothing came or the answer is not streamed.

    Args:
        job: this attempt's.
        node: who goes on, for the comment that marks the place.
        before: what earlier attempts said, in order.

    Raises:
        EngineFailed: the answer has begun and cannot be gone on with; its code is `cannot_continue`.
    """
    said = [(entry_id, entry) for entry_id, entry in before if entry.data]
    if not job.stream or not said:
        return None
    form = _FORMS.get(job.endpoint)
    if form is None:
        raise cannot_continue(Obstacle.API)
    content_type = next((entry.start.content_type for _, entry in said if entry.start is not None), "")
    if content_type.partition(";")[0].strip().lower() != form.content_type:
        raise cannot_continue(Obstacle.FORM)
    begun = form.read(b"".join([entry.data for _, entry in said]))
    try:
        fields = orjson.loads(job.body)
        question = _question(job, fields, begun)
    except (ValueError, TypeError, AttributeError) as exc:  # no JSON object, or too deep to be written again
        raise cannot_continue(Obstacle.FORM) from exc
    ending = form.ending(begun, fields) if question is None else b""
    return Seam(
        after=said[-1][0],
        content_type=content_type,
        question=question,
        form=form,
        begun=begun,
        last_words=ending,
        mark=form.mark(node, job.attempt),
    )


def _question(job: Job, fields: dict[str, Any], begun: Begun) -> Question | None:
    """What is left to ask; None if nothing is."""
    if begun.is_over:
        return None
    obstacle = find_obstacle(fields) or begun.obstacle
    if begun.is_finished and obstacle not in _UNFINISHED:
        return None
    text = begun.text
    if obstacle is None and text.lstrip().startswith(_THOUGHT):
        obstacle = Obstacle.REASONING
    if obstacle is not None:
        raise cannot_continue(obstacle)
    asked = Question.of(job)
    if not text:
        return asked
    lowered = lower_limits(fields, begun.tokens)
    if lowered is None:
        return None
    return replace(asked, body=orjson.dumps(lowered), said=Said(text, begun.tokens))
