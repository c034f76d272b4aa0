"""What was said so far, and how the next question goes out."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Conversation:
    """A conversation with one model at a time; the model may change."""

    model: str
    system: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    messages: list[dict[str, str]] = field(default_factory=list)

    def question(self, text: str) -> dict[str, Any]:
        """The body of a request that says this next; the conversation stays as it was."""
        first = [{"role": "system", "content": self.system}] if self.system else []
        wishes = {"max_tokens": self.max_tokens, "temperature": self.temperature}
        return {
            "model": self.model,
            "messages": [*first, *self.messages, {"role": "user", "content": text}],
            **{name: value for name, value in wishes.items() if value is not None},
        }

    def remember(self, text: str, answer: str) -> None:
        """Both were said."""
        self.messages += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]

    def clear(self) -> None:
        """Forget what was said; the system's word stays."""
        self.messages.clear()
