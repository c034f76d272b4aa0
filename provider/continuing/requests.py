"""What a request's own body says of going on with its answer: obstacles in it, and its limits."""

from collections.abc import Mapping
from typing import Any

from provider.continuing.obstacles import Obstacle

_COUNTS = ("n", "best_of", "n_cmpl")
_LOGPROBS = ("logprobs", "top_logprobs", "prompt_logprobs", "n_probs")
_STRUCTURES = frozenset({"format", "grammar", "json_schema", "structured_outputs", "structural_tag", "regex", "ebnf"})
_GUIDED = "guided_"
"""How vLLM's older names for grammars and schemas begin."""
_NO_STRUCTURES = frozenset({"guided_decoding_backend", "guided_whitespace_pattern"})
_GIVEN: Mapping[str, Obstacle] = {
    "echo": Obstacle.ECHO,
    "suffix": Obstacle.SUFFIX,
    "context": Obstacle.CONTEXT,
}
"""Fields that matter if they hold anything."""

_LIMITS = ("max_completion_tokens", "max_tokens", "n_predict")
"""Of an answer, in OpenAI's API; where several are set, the first decides."""
_NATIVE_LIMIT = "num_predict"
"""Of an answer, in the options of Ollama's API."""
_LEAST = "min_tokens"


def find_obstacle(fields: Mapping[str, Any]) -> Obstacle | None:
    """What in a request makes it impossible to go on with its answer; more answers than one come before all else."""
    if any(fields.get(name) not in (None, 1) for name in _COUNTS):
        return Obstacle.SEVERAL
    if "prompt" in fields and one_prompt(fields["prompt"]) is None:
        return Obstacle.PROMPTS
    if any(_is_asked(fields.get(name)) for name in _LOGPROBS):
        return Obstacle.LOGPROBS
    for name, obstacle in _GIVEN.items():
        if fields.get(name):
            return obstacle
    form = fields.get("response_format")
    is_bound = form and not (isinstance(form, dict) and form.get("type") == "text")
    return Obstacle.STRUCTURE if is_bound or any(_is_structure(name) and fields[name] for name in fields) else None


def one_prompt(prompt: object) -> str | None:
    """The text of a prompt; None if it is none, or more than one."""
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    return prompt if isinstance(prompt, str) else None


def lower_limits(fields: Mapping[str, Any], tokens: int) -> dict[str, Any] | None:
    """The same request with its limits lowered by the tokens that were sent; None if they are used up."""
    lowered = dict(fields)
    limits = [name for name in _LIMITS if _is_limit(fields.get(name))]
    if limits and fields[limits[0]] <= tokens:
        return None
    lowered |= {name: max(1, fields[name] - tokens) for name in limits}
    if _is_limit(fields.get(_LEAST)):
        lowered[_LEAST] = max(0, fields[_LEAST] - tokens)
    options = fields.get("options")
    if isinstance(options, dict) and _is_limit(options.get(_NATIVE_LIMIT)):
        if options[_NATIVE_LIMIT] <= tokens:
            return None
        lowered["options"] = options | {_NATIVE_LIMIT: options[_NATIVE_LIMIT] - tokens}
    return lowered


def _is_asked(wish: object) -> bool:
    """Whether it is there; 0 log probabilities are those of the tokens themselves."""
    return wish is not None and wish is not False


def _is_limit(value: object) -> bool:
    """Whether it is one; 0 and less mean as many as the model likes, wherever an answer came all the same."""
    return type(value) is int and value > 0


def _is_structure(name: str) -> bool:
    return name in _STRUCTURES or (name.startswith(_GUIDED) and name not in _NO_STRUCTURES)
