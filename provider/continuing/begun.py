"""What earlier attempts brought of an answer."""

from dataclasses import dataclass, field
from typing import Any

from common.wire import Usage
from provider.continuing.obstacles import Obstacle


@dataclass(slots=True)
class Begun:
    """The beginning of an answer, as a client has it."""

    head: dict[str, Any] = field(default_factory=dict)
    """What each of its chunks says of the answer: id, model, when it was created."""
    parts: list[str] = field(default_factory=list)
    """The texts that came, one for each event that brought any."""
    is_finished: bool = False
    """Whether it was said why the answer ended."""
    has_usage: bool = False
    """Whether the figures were told, as far as a chunk of their own does so."""
    is_over: bool = False
    """Whether the very last of a stream was said."""
    usage: Usage | None = None
    """The last figures that were told, if any were."""
    obstacle: Obstacle | None = None
    """The first that stood in it."""

    @property
    def text(self) -> str:
        """All that it says."""
        return "".join(self.parts)

    @property
    def tokens(self) -> int:
        """How many it took, as far as one can tell: an engine may say several in one event, and count as it goes."""
        counted = self.usage.completion_tokens if self.usage is not None else None
        return max(len(self.parts), counted or 0)

    def say(self, text: object) -> None:
        """Some more of its text; nothing is passed over."""
        if isinstance(text, str):
            if text:
                self.parts.append(text)
        elif text is not None:
            self.hinder(Obstacle.FORM)

    def hinder(self, obstacle: Obstacle) -> None:
        """Note what makes it impossible to go on."""
        self.obstacle = self.obstacle or obstacle

    def sum_prompt(self, told: object) -> int | None:
        """The tokens of the prompt, where an engine that went on counted this text as part of it."""
        return max(0, told - self.tokens) if type(told) is int else None

    def sum_answer(self, told: object) -> int | None:
        """The tokens of the whole answer, where an engine that went on counted its own part."""
        return told + self.tokens if type(told) is int else None


_IN_SAID = {
    "tool_calls": Obstacle.TOOL_CALLS,
    "function_call": Obstacle.TOOL_CALLS,
    "reasoning_content": Obstacle.REASONING,
    "reasoning": Obstacle.REASONING,
    "reasoning_details": Obstacle.REASONING,
    "thinking": Obstacle.REASONING,
    "refusal": Obstacle.REFUSAL,
    "audio": Obstacle.AUDIO,
    "images": Obstacle.FORM,
    "logprobs": Obstacle.LOGPROBS,
}
"""Fields of a piece of an answer that are no text, whatever the API."""


def find_hindrance(said: dict[str, Any]) -> Obstacle | None:
    """What in a piece of an answer makes it impossible to go on with."""
    for name, obstacle in _IN_SAID.items():
        if said.get(name):
            return obstacle
    return None
