"""Why an answer that has begun cannot be gone on with: one table, a stable word for each."""

from collections.abc import Mapping
from enum import StrEnum

from common.wire import CANNOT_CONTINUE, Failure
from provider.errors import EngineFailed


class Obstacle(StrEnum):
    """What makes it impossible. The word stands in the failure's message, and in docs/failure-modes.md."""

    TOOL_CALLS = "tool_calls"
    REASONING = "reasoning"
    REFUSAL = "refusal"
    AUDIO = "audio"
    SEVERAL = "several_answers"
    PROMPTS = "several_prompts"
    LOGPROBS = "logprobs"
    ECHO = "echo"
    SUFFIX = "suffix"
    STRUCTURE = "structured_output"
    CONTEXT = "context"
    TEMPLATE = "template"
    API = "api"
    FORM = "form"
    NO_PREFILL = "no_prefill"
    REFUSED = "engine_refused"


SENTENCES: Mapping[Obstacle, str] = {
    Obstacle.TOOL_CALLS: "it has begun to call a tool",
    Obstacle.REASONING: "it has begun with reasoning, which no engine takes up again",
    Obstacle.REFUSAL: "it has begun with a refusal",
    Obstacle.AUDIO: "it has begun with audio",
    Obstacle.SEVERAL: "several answers were asked for at once",
    Obstacle.PROMPTS: "it answers several prompts, or one of token ids",
    Obstacle.LOGPROBS: "log probabilities were asked for, and the tokens of the first part are not known",
    Obstacle.ECHO: "the prompt was to be repeated in the answer",
    Obstacle.SUFFIX: "it fills a gap in front of a suffix",
    Obstacle.STRUCTURE: "a grammar or schema binds it, and engines would begin that anew",
    Obstacle.CONTEXT: "it goes on from a context of token ids",
    Obstacle.TEMPLATE: "the request has a template of its own",
    Obstacle.API: "answers of this API are not gone on with",
    Obstacle.FORM: "the request, or what came of the answer, cannot be read as this API's stream",
    Obstacle.NO_PREFILL: "this engine does not go on with the beginning of a chat's answer",
    Obstacle.REFUSED: "the engine refused to go on with it",
}
"""How a client hears of each."""

_ELSEWHERE = frozenset({Obstacle.NO_PREFILL})
"""Obstacles of one engine only: another node may do it."""


def cannot_continue(obstacle: Obstacle, words: str = "") -> EngineFailed:
    """The error that ends an attempt at going on. `words`: the engine's own, if it has said any."""
    message = f"the answer has begun and cannot be gone on with ({obstacle}): {SENTENCES[obstacle]}"
    if words:
        message += f": {words}"
    return EngineFailed(Failure(502, CANNOT_CONTINUE, message, retryable=obstacle in _ELSEWHERE))
